"""What a backend and an overlay have in common: they are asked whether they run a call."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar

from scree_core.versions import module_version


class Plugin(abc.ABC):
    """Runs ops of the contract, as far as it takes them."""

    name: ClassVar[str]

    def why_not(self, op: str, /, *args: Any, **kwargs: Any) -> str | None:
        """Return why this call can't run here as a sentence ("values are on cpu, need cuda"), or None where it can.

        ``args`` and ``kwargs`` are those that the op's method would receive. Of arrays it may look at their form
        alone, at what ``Backend.form`` tells apart: of calls of one form only the first is asked about.
        """
        return None

    def bind(self, op: str, /, *args: Any, **kwargs: Any) -> Callable[..., Any] | None:
        """Return what runs calls of the form of this one, or None where that is the op's method, as mostly.

        ``args`` and ``kwargs`` are those that the method would receive. What is returned takes the positional ones,
        and the arrays among the others, of any call of the same form; it must hold none of these arrays.
        """
        return None

    def version(self) -> str:
        """Return the version of the library behind it, for reports."""
        return module_version(self.name.split(".")[-1])
