"""Attention on the CPU: PyTorch's flash kernel for long rows, and plain products where that doesn't serve.

The kernel knows one mask, the triangle, and no gradient of the lse. So windows, softcaps, causal rows with more
keys than queries, values of another size than keys, and gradients through the lse (those of sinks are)
go as plain products, as do short rows, of which they take many at a time. And so do all gradients in float32: the
kernel rebuilds the weights as ``exp(score - lse)``, and the rounding of the lse alone puts long rows out of the error
budget. The products take 1.1 times the kernel's time for a causal step, 1.3 times for a full one.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from scree_torch.varlen_attention import flash_cpu
from scree_torch.varlen_attention.options import Options, wide_dtype
from scree_torch.varlen_attention.places import Place
from scree_torch.varlen_attention.plan import FlashTile, Tile, flash_tiles, key_ranges, product_tiles
from scree_torch.varlen_attention.tiles import Hidden, Products


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor,
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output ``(total_q, heads, head_dim_v)`` and the lse ``(total_q, heads)``.

    Parameters
    ----------
    q, k, v : torch.Tensor
        Packed, of any floating dtype; halves are computed in float32, tile by tile.
    q_offsets, k_offsets : torch.Tensor of shape (batch + 1,)
        Row boundaries, on the CPU.
    options : Options
        What to compute.
    """
    wide = wide_dtype(q)
    plan = _Plan(q, v, q_offsets, k_offsets, options, flash=True)
    out, lse = q.new_empty((*q.shape[:2], v.shape[2])), q.new_empty(q.shape[:2], dtype=wide)
    for span in plan.other_queries:  # the kernel writes all of its rows
        out[span], lse[span] = 0, -math.inf
    for row in plan.flash:
        given = q[row.q], k[row.k], v[row.k]
        if wide != q.dtype:
            given = tuple(x.to(wide) for x in given)
        out[row.q], lse[row.q] = flash_cpu.attend(*given, triangle=row.triangle, scale=options.scale)
    products = Products(options.scale, options.softcap)
    for tile in plan.products:
        at, keys_at = Place(tile.q_starts, tile.q_lengths), Place(tile.k_starts, tile.k_lengths)
        given = at.take(q, wide), keys_at.take(k, wide), keys_at.take(v, wide)
        found = products.attend(*given, plan.hidden(tile))
        at.put(out, found[0])
        at.put(lse, found[1])
    return out, lse


def backward(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor,
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of q, k and v, in their dtypes, from what ``forward`` was given and returned."""
    wide = wide_dtype(q)
    plan = _Plan(q, v, q_offsets, k_offsets, options, flash=d_lse is None and q.dtype != torch.float32)
    d_q, d_k, d_v = (torch.empty_like(x, dtype=wide) for x in (q, k, v))
    for grad, spans in ((d_q, plan.other_queries), (d_k, plan.other_keys), (d_v, plan.other_keys)):
        for span in spans:
            grad[span] = 0
    for row in plan.flash:
        given = d_out[row.q], q[row.q], k[row.k], v[row.k], out[row.q], lse[row.q]
        if wide != q.dtype:
            given = tuple(x.to(wide) for x in given)
        d_q[row.q], d_k[row.k], d_v[row.k] = flash_cpu.attend_vjp(*given, triangle=row.triangle, scale=options.scale)
    products = Products(options.scale, options.softcap)
    for tile in plan.products:
        at, keys_at = Place(tile.q_starts, tile.q_lengths), Place(tile.k_starts, tile.k_lengths)
        upstream = at.take(d_out, wide), None if d_lse is None else at.take(d_lse, wide)
        given = at.take(q, wide), keys_at.take(k, wide), keys_at.take(v, wide)
        found = products.attend_vjp(*upstream, *given, plan.hidden(tile))
        at.put(d_q, found[0])
        write = keys_at.put if tile.first else keys_at.add  # blocks of queries share keys
        write(d_k, found[1])
        write(d_v, found[2])
    return d_q.to(q.dtype), d_k.to(k.dtype), d_v.to(v.dtype)


class _Plan:
    """The tiles of a batch, and which of their keys are hidden."""

    def __init__(
        self,
        q: torch.Tensor,
        v: torch.Tensor,
        q_offsets: torch.Tensor,
        k_offsets: torch.Tensor,
        options: Options,
        *,
        flash: bool,
    ) -> None:
        bounds = q_offsets.numpy(), k_offsets.numpy()
        work = q.shape[1] * (q.shape[2] + v.shape[2])
        rest = np.ones(bounds[0].shape[0] - 1, bool)
        self.flash: list[FlashTile] = []
        self.products: list[Tile] = []
        if flash and options.plain and options.scale != 0 and q.shape[2] == v.shape[2]:
            self.flash, rest = flash_tiles(*bounds, causal=options.causal, work=work)
        missed = rest, rest
        if (rest & (np.diff(bounds[0]) > 0) & (np.diff(bounds[1]) > 0)).any():
            self.lo, self.hi = key_ranges(*bounds, causal=options.causal, window=options.window)
            self.products, *missed = product_tiles(*bounds, self.lo, self.hi, rest, work=work)
        self.other_queries, self.other_keys = map(_spans, bounds, missed)

    def hidden(self, tile: Tile) -> list[Hidden]:
        """Return which keys of a tile its queries don't see: those before their ranges, and those behind."""
        # Queries of the padding see what the first of their stretch does; whatever comes of it is dropped.
        column = np.arange(max(tile.q_lengths))
        query = np.array(tile.q_starts)[:, None] + np.where(column < np.array(tile.q_lengths)[:, None], column, 0)
        starts, width = np.array(tile.k_starts)[:, None], max(tile.k_lengths)
        lo, hi = (ends[query] - starts for ends in (self.lo, self.hi))
        last, first = int(lo.max()), int(hi.min())
        found = []
        if last > 0:
            found.append(Hidden(slice(0, last), torch.from_numpy(np.arange(last) < lo[:, :, None])))
        if first < width:
            found.append(Hidden(slice(first, width), torch.from_numpy(np.arange(first, width) >= hi[:, :, None])))
        return found


def _spans(offsets: np.ndarray, rows: np.ndarray) -> list[slice]:
    """Return where some rows lie, neighbours as one span, and behind them what follows the last row of all."""
    edges = np.flatnonzero(np.diff(rows, prepend=False, append=False))
    return [slice(*pair) for pair in offsets[edges].reshape(-1, 2).tolist()] + [slice(int(offsets[-1]), None)]
