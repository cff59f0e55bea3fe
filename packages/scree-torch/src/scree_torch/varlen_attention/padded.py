"""Attention on rectangles, for what has no kernel on a device: float32, softcaps, and devices other than CUDA.

Rows are padded on the left to the longest, so that their ends lie in one column and a block of queries sees
the same columns in every row; the blocks are ``tiles.Products``. Work and memory are those of padded batches but for
the scores, of which there are ``batch * heads * 128 * longest`` at a time, and the blocks that causality or a
window hides, which are left out. No offset is read on the host. Not measured on MPS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from scree_torch import rectangles
from scree_torch.segments import positions, segment_ids
from scree_torch.varlen_attention.options import Options, wide_dtype
from scree_torch.varlen_attention.tiles import Hidden, Products

BLOCK = 128
"""Queries at a time."""


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor,
    max_q: int,
    max_k: int,
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output ``(total_q, heads, head_dim_v)`` and the lse ``(total_q, heads)``.

    Parameters
    ----------
    q, k, v : torch.Tensor
        Packed; halves are computed in float32.
    q_offsets, k_offsets : torch.Tensor of shape (batch + 1,)
        Row boundaries.
    max_q, max_k : int
        Bounds of the row lengths: what the rows are padded to.
    options : Options
        What to compute.
    """
    wide = wide_dtype(q)
    queries_in, keys_in = _Rectangle(q_offsets, q.shape[0], max_q), _Rectangle(k_offsets, k.shape[0], max_k)
    dtype = q.dtype
    q, k, v = queries_in.spread(q.to(wide)), keys_in.spread(k.to(wide)), keys_in.spread(v.to(wide))
    out = q.new_zeros((*q.shape[:3], v.shape[3]))
    lse = q.new_full(q.shape[:3], -math.inf)
    products = Products(options.scale, options.softcap)
    for queries, keys in _blocks(max_q, max_k, options):
        hidden, blind = _hidden(queries, keys, max_k - max_q, keys_in.padding, options)
        found, sums = products.attend(q[:, queries], k[:, keys], v[:, keys], [hidden])
        out[:, queries] = found.masked_fill(blind[..., None, None], 0)
        lse[:, queries] = sums.masked_fill(blind[..., None], -math.inf)
    return queries_in.collect(out).to(dtype), queries_in.collect(lse)


def backward(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor,
    max_q: int,
    max_k: int,
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of q, k and v, in their dtypes, from what ``forward`` was given."""
    wide = wide_dtype(q)
    queries_in, keys_in = _Rectangle(q_offsets, q.shape[0], max_q), _Rectangle(k_offsets, k.shape[0], max_k)
    dtype = q.dtype
    q, d_out = queries_in.spread(q.to(wide)), queries_in.spread(d_out.to(wide))
    k, v = keys_in.spread(k.to(wide)), keys_in.spread(v.to(wide))
    d_lse = None if d_lse is None else queries_in.spread(d_lse.to(wide))
    d_q, d_k, d_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    products = Products(options.scale, options.softcap)
    for queries, keys in _blocks(max_q, max_k, options):
        hidden, blind = _hidden(queries, keys, max_k - max_q, keys_in.padding, options)
        found = products.attend_vjp(
            d_out[:, queries].masked_fill(blind[..., None, None], 0),
            None if d_lse is None else d_lse[:, queries].masked_fill(blind[..., None], 0),
            q[:, queries],
            k[:, keys],
            v[:, keys],
            [hidden],
        )
        d_q[:, queries] = found[0]
        d_k[:, keys] += found[1]
        d_v[:, keys] += found[2]
    return queries_in.collect(d_q).to(dtype), keys_in.collect(d_k).to(dtype), keys_in.collect(d_v).to(dtype)


class _Rectangle:
    """Rows of packed values, padded on the left to one width."""

    def __init__(self, offsets: torch.Tensor, total: int, width: int) -> None:
        ids = segment_ids(offsets, total)
        at = positions(offsets, ids, tail=True)
        self.cell, _ = rectangles.cells(offsets, ids, at, width, "left", tail=True)
        self.shape = (offsets.shape[0] - 1, width)
        self.padding = width - (offsets[1:] - offsets[:-1])

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(batch, width, *features)``, with zeros for padding."""
        padded = rectangles.spread(x, self.cell, self.shape[0] * self.shape[1], 0, tail=True)
        return padded.reshape(*self.shape, *x.shape[1:])

    def collect(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(total, *features)``."""
        return rectangles.collect(x.reshape(self.shape[0] * self.shape[1], *x.shape[2:]), self.cell, tail=True)


def _blocks(max_q: int, max_k: int, options: Options) -> Iterator[tuple[slice, slice]]:
    """Iterate over blocks of queries, with the keys that any of them may see."""
    left, right = options.window[0], 0 if options.causal else options.window[1]
    for start in range(0, max_q, BLOCK):
        stop = min(start + BLOCK, max_q)
        first = max(0, start + max_k - max_q - left) if left >= 0 else 0
        last = min(max_k, stop + max_k - max_q + right) if right >= 0 else max_k
        if first < last:
            yield slice(start, stop), slice(first, last)


def _hidden(
    queries: slice, keys: slice, ahead: int, padding: torch.Tensor, options: Options
) -> tuple[Hidden, torch.Tensor]:
    """Return which keys are hidden from queries that see some, and which queries see none, ``(batch, queries)``.

    Query ``i`` sits at key ``i + ahead``. One that sees none may look at what it likes: a softmax over nothing is NaN.
    """
    left, right = options.window[0], 0 if options.causal else options.window[1]
    key = torch.arange(keys.start, keys.stop, device=padding.device)
    at = torch.arange(queries.start, queries.stop, device=padding.device).unsqueeze(1) + ahead
    hidden = (key < padding.unsqueeze(1)).unsqueeze(1)
    if left >= 0:
        hidden = hidden | (key < at - left)
    if right >= 0:
        hidden = hidden | (key > at + right)
    blind = hidden.all(-1)
    return Hidden(slice(None), hidden & ~blind.unsqueeze(-1)), blind
