"""What a benchmark times: one way to compute attention, forwards and as a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Candidate(NamedTuple):
    """One way to compute attention on packed data; every call blocks until its result is there."""

    forward: Callable[[], Any]
    """Return the packed output, ``(total, heads, head_dim)``, as an array of the library."""
    step: Callable[[], tuple[Any, Any, Any]]
    """Return the gradients of q, k and v of ``sum(output * cotangent(output's shape))``."""
    to_numpy: Callable[[Any], Any]
    """Return an array of the library as a NumPy array, for the check that comes before any timing."""
