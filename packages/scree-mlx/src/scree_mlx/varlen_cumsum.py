"""Running sums within rows."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from scree_mlx.namespace import take
from scree_mlx.rectangles import Rectangles
from scree_mlx.reductions import whole_cumsum
from scree_mlx.segments import segment_ids


def varlen_cumsum(x: mx.array, offsets: mx.array, rectangles: Callable[[], Rectangles]) -> mx.array:
    """Return the running sum within each row.

    Parameters
    ----------
    x : array of shape (total, *features)
        float32 or wider, or integers.
    offsets : int array of shape (batch + 1,)
    rectangles : callable
        Gives the rectangles to compute floats on.

    Notes
    -----
    Integers: the running sum over all rows, less that at the row's start, which is exact as they wrap round.
    Floats: ``mx.cumsum`` along rectangles, as in floats that difference would hold the other rows' rounding and
    NaN.
    """
    if mx.issubdtype(x.dtype, mx.floating):
        laid = rectangles()
        if x.size == 0 or not laid.rectangles:
            return x
        return laid.collect([mx.cumsum(part, axis=1) for part in laid.spread(x)], mx.zeros((), x.dtype))
    running = whole_cumsum(x)
    before = mx.concatenate([mx.zeros((1, *x.shape[1:]), dtype=running.dtype), running])
    starts = take(offsets, segment_ids(offsets, x.shape[0]), axis=0)
    return running - take(before, starts, axis=0)
