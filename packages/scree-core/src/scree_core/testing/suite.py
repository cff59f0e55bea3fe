"""The suites to subclass: one for a backend, one for an overlay."""

from __future__ import annotations

from scree_core.testing.op_tests import OpTests
from scree_core.testing.type_tests import TypeTests


class BackendConformance(OpTests, TypeTests):
    """The suite for a backend: every op, its gradients, its errors, and the properties of the type."""


class OverlayConformance(OpTests):
    """The suite for an overlay: the ops it defines, over its base backend."""
