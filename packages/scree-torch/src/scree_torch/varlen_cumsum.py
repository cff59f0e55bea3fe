"""Running sums within rows, on a rectangle of chunks.

PyTorch's ``cumsum`` runs along the chunks of the rectangle, none of which holds elements of two rows; what comes
before a chunk in its row is the running sum of the chunks' totals, by the same way on a layout ``CHUNK`` times
shorter. So no row sees another's NaN, overflow or rounding, which a running sum over everything, less that of
the row's start, would show. 10,000 rows of mean length 20 take 3 ms so, and 62 row by row; 4 of
100,000 with 4 features 4 ms, and 3 (2 CPU cores, 2026-11-22).
"""

from __future__ import annotations

from typing import Any

import torch

from scree_torch.differentiable import Differentiable
from scree_torch.reductions import narrowed, widened
from scree_torch.segments import CHUNK, chunk_offsets, positions, segment_ids


def varlen_cumsum(
    x: torch.Tensor, offsets: torch.Tensor, ids: torch.Tensor, at: torch.Tensor, longest: int | None, *, tail: bool
) -> torch.Tensor:
    """Return the running sum within each row, inclusive: ``(total, *features)``.

    Parameters
    ----------
    x : torch.Tensor of shape (total, *features)
        Halves are added up in float32, integers and bools in int64.
    offsets, ids, at
        Row boundaries, and row and position of each element.
    longest : int, optional
        A bound of the row lengths, if the host knows one; the total bounds them too.
    tail : bool
        Whether elements may follow the last row.

    Returns
    -------
    torch.Tensor
        Of the dtype of x, or int64.

    Notes
    -----
    Memory for ``total + CHUNK * (batch + 1)`` elements. No sync; under a compiler, a total that passes a
    power of ``CHUNK`` needs one more level and is compiled anew.
    """
    bound = x.shape[0] if longest is None else longest
    if not x.is_floating_point():
        return _running(x.to(torch.int64), offsets, ids, at, bound, tail, False)
    return _Running.apply(x, offsets, ids, at, bound, tail, False)


class _Running(Differentiable):
    @staticmethod
    def forward(
        x: torch.Tensor,
        offsets: torch.Tensor,
        ids: torch.Tensor,
        at: torch.Tensor,
        bound: int,
        tail: bool,
        backwards: bool,
    ) -> torch.Tensor:
        return narrowed(_running(widened(x), offsets, ids, at, bound, tail, backwards), x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, offsets, ids, at, ctx.bound, ctx.tail, ctx.backwards = inputs
        ctx.save_for_backward(offsets, ids, at)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> Any:
        # The gradient of a running sum is the running sum from the other end.
        offsets, ids, at = ctx.saved_tensors
        d_x = _Running.apply(d_out, offsets, ids, at, ctx.bound, ctx.tail, not ctx.backwards)
        return d_x, None, None, None, None, None, None


def _running(
    x: torch.Tensor,
    offsets: torch.Tensor,
    ids: torch.Tensor,
    at: torch.Tensor,
    bound: int,
    tail: bool,
    backwards: bool,
) -> torch.Tensor:
    batch, features = offsets.shape[0] - 1, x.shape[1:]
    first = chunk_offsets(offsets)
    chunks = x.shape[0] // CHUNK + batch + 1
    chunk = first.index_select(0, ids) + torch.div(at, CHUNK, rounding_mode="floor")
    cell = chunk * CHUNK + at % CHUNK
    rectangle = x.new_zeros((chunks * CHUNK, *features)).index_put_((cell,), x).reshape(chunks, CHUNK, *features)
    sums = _cumsum(rectangle, backwards)
    out = sums.reshape(chunks * CHUNK, *features).index_select(0, cell)
    if bound <= CHUNK:
        return out

    row = segment_ids(first, chunks)
    place = positions(first, row, tail=True)
    totals = sums[:, 0] if backwards else sums[:, -1]
    running = _running(totals, first, row, place, -(-bound // CHUNK), True, backwards)
    # What comes before a chunk is the running sum up to its neighbour, if that is of its row. At the end there is
    # always a chunk of no row, so the first and the last aren't taken for neighbours.
    step = -1 if backwards else 1
    alone = row != row.roll(step)
    before = running.roll(step, 0).masked_fill(alone.reshape(-1, *(1 for _ in features)), 0)
    return out + before.index_select(0, chunk)


def _cumsum(rectangle: torch.Tensor, backwards: bool) -> torch.Tensor:
    return rectangle.flip(1).cumsum(1).flip(1) if backwards else rectangle.cumsum(1)
