"""Who would run a call, and why not the others."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from scree_core.dispatch import Call, choose, refusal, selected
from scree_core.errors import ArgumentError, UnsupportedError
from scree_core.registry import candidates


class Candidate(NamedTuple):
    """A backend or overlay that could run a call, and its reason if it can't."""

    name: str
    reason: str | None


class Explanation(NamedTuple):
    """Who runs a call and who doesn't; prints as a few lines."""

    op: str
    chosen: str | None
    candidates: tuple[Candidate, ...]
    asked: str | None
    """The backend named by ``backend=``, ``use_backend`` or ``SCREE_BACKEND``."""

    def __str__(self) -> str:
        lines = [f"{self.op}: {self.chosen or 'no backend'}" + (f" (asked for: {self.asked})" if self.asked else "")]
        for name, reason in self.candidates:
            state = "chosen" if name == self.chosen else reason or "can, but was not asked"
            lines.append(f"  {name}: {state}")
        return "\n".join(lines)

    __repr__ = __str__


def explain(op: str, *args: Any, backend: str | None = None, **kwargs: Any) -> Explanation:
    """Tell which backend would run a call, and why each other one wouldn't.

    Parameters
    ----------
    op : str
        Name of an op, such as ``"varlen_attention"``.
    *args, **kwargs
        As for the op itself; they are checked, but nothing is computed.
    backend : str, optional
        As for the op itself.

    Returns
    -------
    Explanation
        With ``chosen`` (None where the named backend can't), ``candidates``, and a readable ``str``.

    Raises
    ------
    ArgumentError
        No op has this name.
    ScreeError
        The op's own errors for bad arguments.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.explain("varlen_softmax", scree.from_lengths(np.zeros(3), [1, 2]))
    varlen_softmax: numpy
      numpy: chosen
    """
    call = prepared(op, *args, **kwargs)
    found = candidates(type(next(iter(call.arrays.values()))))
    named = selected() if backend is None else backend
    try:
        chosen = choose(call, backend).name
    except UnsupportedError:
        chosen = None
    listed = tuple(Candidate(p.name, refusal(p, call)) for p in (*found.overlays, found.base))
    return Explanation(op, chosen, listed, named)


def prepared(op: str, *args: Any, **kwargs: Any) -> Call:
    """Return the checked call of a public op, as its backend would receive it."""
    from scree_core import ops

    if op not in ops.__all__:
        raise ArgumentError(f"there is no op {op!r}; the ops are {', '.join(ops.__all__)}")
    return importlib.import_module(f"scree_core.ops.{op}").prepare(*args, **kwargs)
