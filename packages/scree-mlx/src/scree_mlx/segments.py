"""Rows as segments of the packed axis: whose each element is, and each row's elements added up or compared.

Scatters, which need neither the lengths on the host nor a rectangle, and work under ``mx.compile`` and ``mx.vmap``.
For 1,000 rows of 96 x 64 floats on 2 CPU cores (mlx 0.32.4) a scattered sum takes 36 ms, padding and ``mx.sum``
110, a loop of ``mx.sum`` over rows 12, ``mx.segmented_mm`` with ones 4; but one feature takes 3, 9, 19 and 0.5 ms, a
loop needs the offsets on the host, and ``segmented_mm`` has neither a gradient nor ``mx.vmap``.
"""

from __future__ import annotations

import mlx.core as mx

from scree_mlx.moving import gather
from scree_mlx.namespace import full


def segment_ids(offsets: mx.array, total: int) -> mx.array:
    """Return the row number of each element, int32 ``(total,)``; that of an element past the last row is ``batch``.

    Counted: one mark at each row's end, added up from left to right. In the range 0 to ``batch`` whatever the
    offsets hold, so that no index made of them leaves its array.
    """
    ends = mx.clip(offsets[1:], 0, total)
    marks = mx.zeros((total + 1,), dtype=mx.int32).at[ends].add(mx.ones(ends.shape, dtype=mx.int32))
    return mx.cumsum(marks)[:total]


def segment_sum(x: mx.array, ids: mx.array, batch: int) -> mx.array:
    """Return each row's sum ``(batch, *features)``, in the dtype of ``x``; the row ``batch`` is left out."""
    sums = mx.zeros((batch + 1, *x.shape[1:]), dtype=x.dtype)
    return sums.at[ids].add(x)[:batch] if x.size else sums[:batch]


def segment_extreme(x: mx.array, ids: mx.array, batch: int, *, largest: bool, identity: float) -> mx.array:
    """Return each row's largest or smallest element ``(batch, *features)``, without a gradient.

    ``identity`` where a row has none. NaN may win or lose.
    """
    x = mx.stop_gradient(x)
    with mx.stream(_stream(x)):
        start = full((batch + 1, *x.shape[1:]), identity, dtype=x.dtype)
        if x.size == 0:
            return start[:batch]
        return (start.at[ids].maximum(x) if largest else start.at[ids].minimum(x))[:batch]


def _stream(x: mx.array) -> mx.Device | mx.Stream:
    # GPUs scatter no 8 bytes at once; memory is shared, so the CPU does it where the array is.
    device = mx.default_device()
    return mx.cpu if x.dtype.size == 8 and device.type == mx.gpu else device  # pyrefly: ignore[bad-return]


def repeat(per_row: mx.array, ids: mx.array) -> mx.array:
    """Give each element its row's entry: ``(batch, *features)`` to ``(total, *features)``."""
    return gather(per_row, ids)


def lengths_like(offsets: mx.array, x: mx.array) -> mx.array:
    """Return the row lengths ``(batch, 1, ...)`` to broadcast against ``(batch, *features)`` of ``x``."""
    lengths = offsets[1:] - offsets[:-1]
    return lengths.reshape(lengths.shape[0], *(1 for _ in x.shape[1:]))
