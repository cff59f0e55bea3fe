"""Finding the fastest way to run a call on the device that is there, when the user asks for it."""

from __future__ import annotations

from typing import Any, NamedTuple

from scree_core.dispatch import choose, common_candidates
from scree_core.errors import UnsupportedError
from scree_core.explain import prepared


class TunedKernel(NamedTuple):
    """What was measured of one kernel."""

    name: str
    """Which part of the op it computes."""
    default: str
    """The setting that it had before."""
    default_ms: float
    best: str
    """The setting that it has from now on; the former one, where none is clearly faster."""
    best_ms: float
    tried: int
    """How many settings ran and gave the right result."""

    @property
    def ratio(self) -> float:
        """The best time per former time."""
        return self.best_ms / self.default_ms


class Tuning(NamedTuple):
    """What ``scree.tune`` found; prints as a few lines."""

    op: str
    backend: str
    scope: str
    """The device, and which calls on it run with the result."""
    kernels: tuple[TunedKernel, ...]
    path: str | None
    """The file in which later processes find it, until it is deleted; None where it couldn't be written."""

    def __str__(self) -> str:
        names = max(len(kernel.name) for kernel in self.kernels)
        lines = [f"{self.op} by {self.backend} on {self.scope}"]
        for kernel in self.kernels:
            head = f"  {kernel.name:{names}}  {kernel.default} {kernel.default_ms:.4g} ms"
            if kernel.best == kernel.default:
                lines.append(f"{head}, kept: the fastest of {kernel.tried}")
            else:
                of = f"{kernel.ratio:.2f} of the time, the fastest of {kernel.tried}"
                lines.append(f"{head}, now {kernel.best} {kernel.best_ms:.4g} ms: {of}")
        kept = f"in {self.path}; delete it to forget" if self.path else "for this process alone"
        return "\n".join([*lines, f"  kept {kept}"])

    __repr__ = __str__


def tune(op: str, *args: Any, gradient: bool = False, backend: str | None = None, **kwargs: Any) -> Tuning:
    """Measure how a call runs fastest on its device, and run calls like it so from now on, in later processes too.

    Nothing is ever tuned unless somebody asks: ops run with settings that were measured beforehand, on some
    devices, or chosen with care for the others. Backends without settings of their own refuse.

    Parameters
    ----------
    op : str
        Name of an op, such as ``"varlen_attention"``.
    *args, **kwargs
        As for the op itself: arrays of the dtype, the features and the lengths that are to be fast.
    gradient : bool, default False
        Tune what computes gradients too. Always done where an array asks for a gradient.
    backend : str, optional
        As for the op itself.

    Returns
    -------
    Tuning
        For each kernel the setting it had, the best one, and their times. Prints as a few lines.

    Raises
    ------
    ArgumentError
        No op has this name, or the arrays leave nothing to measure.
    UnsupportedError
        Who runs this call has nothing to tune; the message says who has, and why that one doesn't run it.
    ScreeError
        The op's own errors for bad arguments.

    Notes
    -----
    Takes seconds to a minute, most of it to compile what is tried; waits for the device. Who runs the op says which
    calls count as alike, and where it keeps the result: see its page in the documentation.

    Examples
    --------
    >>> import numpy as np, scree
    >>> x = scree.from_lengths(np.zeros(3), [1, 2])
    >>> scree.tune("varlen_softmax", x)
    Traceback (most recent call last):
    scree_core.errors.UnsupportedError: backend 'numpy' runs varlen_softmax here and has nothing to tune
    """
    call = prepared(op, *args, **kwargs)
    chosen = choose(call, backend)
    tuner = getattr(chosen, "tune", None)
    if tuner is None:
        message = f"backend {chosen.name!r} runs {op} here and has nothing to tune"
        overlays = [o for o in common_candidates(call.arrays).overlays if hasattr(o, "tune")]
        reasons = [f"{o.name}: {o.why_not(op, *call.args, **call.kwargs) or 'can, if named'}" for o in overlays]
        raise UnsupportedError(f"{message}; who has doesn't run it: {'; '.join(reasons)}" if reasons else message)
    return tuner(op, *call.args, gradient=gradient, **call.kwargs)
