"""A faster subset of the contract, in front of a backend."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from scree_core.plugin import Plugin


class Overlay(Plugin):
    """A faster subset of the contract's ops over the arrays of another backend.

    Its entry point's name is dotted: ``torch.triton`` lies over ``torch``. It defines any of the op
    methods of ``Backend``, with the same signatures; the methods defined are its list of
    capabilities. The first overlay by priority whose ``why_not`` is None runs the call.

    One whose kernels have settings to be measured may also define ``tune(op, /, *args, gradient, **kwargs)``, which
    takes a call as its methods do and returns a ``Tuning``.
    """

    name: ClassVar[str]
    """Dotted name: the backend it lies over, then its own."""
    priority: ClassVar[int] = 0
    """The highest is asked first."""
    named_only: ClassVar[bool] = False
    """Whether it only runs a call that names it."""

    @abc.abstractmethod
    def why_not(self, op: str, /, *args: Any, **kwargs: Any) -> str | None:
        """Return why this call can't run here as a sentence, or None where it can; see ``Plugin.why_not``."""
