"""Attention in blocks of query rows: BLAS for the products, scores masked only where a mask cuts.

Memory: one block's ``heads * 128 * keys`` scores. Time on 2 CPU cores against whole rows, padded batches and
einsum: ``benchmarks/attention.py``.
"""

from __future__ import annotations

import itertools

import numpy as np

from scree_core import reference

BLOCK = 128
"""Query rows at a time: their scores stay in cache, and causality skips the keys behind them."""


def varlen_attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    q_offsets: np.ndarray,
    k_offsets: np.ndarray,
    *,
    causal: bool,
    scale: float,
    window: tuple[int, int],
    softcap: float | None,
    sinks: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(out, lse)``; see ``Backend.varlen_attention``."""
    total, heads, _ = q.shape
    kv_heads, v_dim = v.shape[1:]
    group = heads // kv_heads
    out = np.zeros((total, heads, v_dim), q.dtype)
    lse = np.full((total, heads), -np.inf, q.dtype)
    if total == 0 or heads == 0 or k.shape[0] == 0:
        return out, lse
    row_of = np.repeat(np.arange(q_offsets.shape[0] - 1, dtype=q_offsets.dtype), np.diff(q_offsets))
    k_lo, k_hi = reference.key_ranges(np, q_offsets, k_offsets, row_of, causal=causal, window=window)
    # Heads first, and those that share a key head beside each other: views, which BLAS reads as they are.
    grouped = q.reshape(total, kv_heads, group, -1).transpose(1, 2, 0, 3)  # (kv_heads, group, total_q, head_dim)
    keys = k.transpose(1, 2, 0)[:, None]  # (kv_heads, 1, head_dim, total_k)
    v_heads = v.transpose(1, 0, 2)[:, None]  # (kv_heads, 1, total_k, head_dim_v)
    out_heads = out.reshape(total, kv_heads, group, v_dim).transpose(1, 2, 0, 3)
    lse_heads = lse.reshape(total, kv_heads, group).transpose(1, 2, 0)
    sink = None if sinks is None else sinks.astype(q.dtype).reshape(kv_heads, group, 1, 1)
    for block in blocks(q_offsets):
        lo, hi = k_lo[block], k_hi[block]
        seen = np.flatnonzero(hi > lo)
        if seen.size == 0:
            continue
        span = slice(int(lo[seen].min()), int(hi[seen].max()))
        scores = np.matmul(grouped[:, :, block] * q.dtype.type(scale), keys[..., span])
        if softcap is not None:
            scores *= 1 / softcap
            np.tanh(scores, out=scores)
            scores *= softcap
        hide(scores, lo - span.start, hi - span.start)
        _attend(scores, v_heads[:, :, span], sink, out_heads[:, :, block], lse_heads[:, :, block])
    return out, lse


def blocks(offsets: np.ndarray) -> list[slice]:
    """Cut each row into blocks of at most ``BLOCK`` elements."""
    bounds = offsets.tolist()
    return [
        slice(start, min(start + BLOCK, stop))
        for first, stop in itertools.pairwise(bounds)
        for start in range(first, stop, BLOCK)
    ]


def hide(scores: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> None:
    """Set the scores outside each query's key range to -inf, touching only the columns where ranges end."""
    width = scores.shape[-1]
    last, first = min(int(lo.max()), width), max(int(hi.min()), 0)
    if last > 0:
        np.copyto(scores[..., :last], -np.inf, where=np.arange(last, dtype=lo.dtype) < lo[:, None])
    if first < width:
        np.copyto(scores[..., first:], -np.inf, where=np.arange(first, width, dtype=hi.dtype) >= hi[:, None])


def _attend(scores: np.ndarray, values: np.ndarray, sink: np.ndarray | None, out: np.ndarray, lse: np.ndarray) -> None:
    """Turn scores to weights in place, and write the weighted values and the log-sum-exp."""
    top = scores.max(axis=-1, keepdims=True)
    if sink is not None:
        np.maximum(top, sink, out=top)
    top[np.isneginf(top)] = 0
    scores -= top
    np.exp(scores, out=scores)
    total = np.matmul(scores, np.ones((scores.shape[-1], 1), scores.dtype))  # thrice as fast as sum
    with np.errstate(divide="ignore"):  # a query that sees no key has log(0) = -inf
        np.add(np.log(total), top, out=lse[..., None])
    if sink is not None:
        total += np.exp(sink - top)
    total[total == 0] = 1
    np.divide(np.matmul(scores, values), total, out=out)
