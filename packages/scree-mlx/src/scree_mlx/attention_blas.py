"""The gradient of attention in NumPy: scores computed again block by block, BLAS for the products.

The counterpart of ``scree_core.numpy_backend.attention``, which computes the output. Memory beside the results:
one block's scores and their gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scree_core import reference
from scree_core.numpy_backend.attention import blocks, hide


class Gradients(NamedTuple):
    """One for each array that attention takes."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    sinks: np.ndarray | None


def attention_gradients(
    d_out: np.ndarray,
    d_lse: np.ndarray | None,
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
) -> Gradients:
    """Return the gradients of ``sum(d_out * out) + sum(d_lse * lse)``.

    Parameters
    ----------
    d_out : array of shape (total_q, heads, head_dim_v)
        Cotangent of the output.
    d_lse : array of shape (total_q, heads), optional
        Cotangent of the log-sum-exp.
    q, k, v, q_offsets, k_offsets, causal, scale, window, softcap, sinks
        As ``Backend.varlen_attention`` takes them; all arrays float32, or all float64.

    Notes
    -----
    With weights ``p`` and ``dp = d_out @ v.T`` the gradient of the scores is ``p * (dp - sum(p * dp))``, and
    ``p * d_lse`` for the log-sum-exp (Dao 2023, FlashAttention-2, algorithm 2). The weights are normalised
    again, not taken from the log-sum-exp: of scores of 400 that would lose 5 of 7 digits. Five products, where the
    output took two.
    """
    (total, heads, head_dim), kv_heads = q.shape, k.shape[1]
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    d_sinks = None if sinks is None else np.zeros_like(sinks)
    grads = Gradients(dq, dk, dv, d_sinks)
    if 0 in (total, heads, k.shape[0]):
        return grads
    row_of = np.repeat(np.arange(q_offsets.shape[0] - 1, dtype=q_offsets.dtype), np.diff(q_offsets))
    k_lo, k_hi = reference.key_ranges(np, q_offsets, k_offsets, row_of, causal=causal, window=window)

    def by_head(x: np.ndarray, block: slice) -> np.ndarray:
        """Return a block as ``(kv_heads, group * rows, feature)``: the heads that share a key head stand together."""
        grouped = x[block].reshape(block.stop - block.start, kv_heads, heads // kv_heads, -1).transpose(1, 2, 0, 3)
        return grouped.reshape(kv_heads, -1, grouped.shape[-1])

    k_heads, v_heads, dk_heads, dv_heads = (x.transpose(1, 0, 2) for x in (k, v, dk, dv))  # views
    for block in blocks(q_offsets):
        lo, hi = k_lo[block], k_hi[block]
        seen = np.flatnonzero(hi > lo)
        if seen.size == 0:
            continue
        span, length = slice(int(lo[seen].min()), int(hi[seen].max())), block.stop - block.start
        rows, d_rows, keys = by_head(q, block), by_head(d_out, block), k_heads[:, span]

        scores = np.matmul(rows, keys.transpose(0, 2, 1))  # (kv_heads, group * rows, keys)
        scores *= q.dtype.type(scale)  # not the queries, each of which would be rounded
        slope = None if softcap is None else _cap(scores, softcap)
        hide(scores.reshape(kv_heads, -1, length, scores.shape[-1]), lo - span.start, hi - span.start)
        of_lse = None  # its gradient belongs to the weights without the sink
        if d_lse is not None and sinks is not None:
            of_lse = _softmax(scores.copy(), None)[0] * by_head(d_lse, block)
        weights, share = _softmax(
            scores, None if sinks is None else np.repeat(sinks.reshape(kv_heads, -1, 1), length, 1)
        )

        dv_heads[:, span] += _over_queries(weights, d_rows, length)
        d_scores = np.matmul(d_rows, v_heads[:, span].transpose(0, 2, 1))
        mean = _sum(weights * d_scores)
        if d_sinks is not None:
            d_sinks -= (share * mean).reshape(heads, length).sum(axis=1)
        d_scores -= mean if of_lse is not None or d_lse is None else mean - by_head(d_lse, block)
        d_scores *= weights
        if of_lse is not None:
            d_scores += of_lse
        if slope is not None:
            d_scores *= slope
        d_scores *= q.dtype.type(scale)
        dk_heads[:, span] += _over_queries(d_scores, rows, length)
        dq[block] = np.matmul(d_scores, keys).reshape(heads, length, head_dim).transpose(1, 0, 2)
    return grads


def _over_queries(weights: np.ndarray, x: np.ndarray, length: int) -> np.ndarray:
    """Return ``weights.T @ x``, added up head by head: a single long sum rounds off more."""
    weights, x = (a.reshape(a.shape[0], -1, length, a.shape[-1]) for a in (weights, x))
    return np.matmul(weights.swapaxes(2, 3), x).sum(axis=1)


def _cap(scores: np.ndarray, softcap: float) -> np.ndarray:
    """Cap scores in place, and return the slope of the cap there."""
    scores *= 1 / softcap
    np.tanh(scores, out=scores)
    slope = 1 - scores * scores
    scores *= softcap
    return slope


def _softmax(scores: np.ndarray, sink: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Turn scores to weights in place; return them and the weight of the sink, 0 without one."""
    top = scores.max(axis=-1, keepdims=True)
    if sink is not None:
        np.maximum(top, sink, out=top)
    top[np.isneginf(top)] = 0  # a query that sees nothing has no weights, rather than NaN
    scores -= top
    np.exp(scores, out=scores)
    total, share = _sum(scores), np.zeros_like(top)
    if sink is not None:
        np.exp(sink - top, out=share)
        total += share
    total[total == 0] = 1
    scores /= total
    return scores, share / total


def _sum(x: np.ndarray) -> np.ndarray:
    return np.matmul(x, np.ones((x.shape[-1], 1), x.dtype))  # thrice as fast as sum
