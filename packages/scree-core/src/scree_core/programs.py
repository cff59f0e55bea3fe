"""Calls that are alike: checked and decided once, then run straight away.

Checking the arguments of an op and asking who runs it takes longer than a small kernel. Both look at nothing but the
form of a call: shapes, strides, dtypes, devices, options. So what they found is kept by that form, as compilers do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

MOST = 4096
"""Forms that are kept; a stream of ever new ones starts over."""

_programs: dict[Hashable, Callable[..., Any]] = {}


def program_of(form: Hashable) -> Callable[..., Any] | None:
    """Return what runs calls of this form, if one was seen before."""
    return _programs.get(form)


def keep(form: Hashable, program: Callable[..., Any]) -> None:
    """Keep what runs calls of this form; it must hold none of their arrays."""
    if len(_programs) >= MOST:
        _programs.clear()
    _programs[form] = program


def forget() -> None:
    """Forget every program: who may run a call has changed."""
    _programs.clear()
