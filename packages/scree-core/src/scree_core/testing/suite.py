"""The suites to subclass: one for a backend, one for an overlay."""

from __future__ import annotations

from scree_core.testing.compiled_tests import CompiledTests
from scree_core.testing.op_tests import OpTests
from scree_core.testing.precision_tests import PrecisionTests
from scree_core.testing.tail_tests import TailTests
from scree_core.testing.type_tests import TypeTests


class BackendConformance(OpTests, TailTests, CompiledTests, PrecisionTests, TypeTests):
    """The suite for a backend: every op, its gradients, its errors, and the properties of the type."""


class OverlayConformance(OpTests, TailTests, CompiledTests):
    """The suite for an overlay: the ops it defines, over its base backend."""
