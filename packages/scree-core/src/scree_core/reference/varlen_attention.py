"""Attention of each row's queries to the same row's keys."""

from __future__ import annotations

import math
from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.geometry import key_ranges, rows
from scree_core.reference.making import arange_like, constant, matmul


def varlen_attention(
    xp: Namespace,
    q: Any,
    k: Any,
    v: Any,
    q_offsets: Any,
    k_offsets: Any,
    *,
    causal: bool,
    scale: float,
    window: tuple[int, int],
    softcap: float | None,
    sinks: Any | None,
) -> tuple[Any, Any]:
    """Attend from each row's queries to the keys of the same row.

    Parameters
    ----------
    q : array of shape (total_q, heads, head_dim)
        Queries.
    k : array of shape (total_k, kv_heads, head_dim)
        Keys. ``heads`` is a multiple of ``kv_heads``: query head ``h`` uses head ``h // (heads // kv_heads)``.
    v : array of shape (total_k, kv_heads, head_dim_v)
        Values.
    q_offsets, k_offsets : sequence of int of shape (batch + 1,)
        Row boundaries of the queries and of the keys, in host memory.
    causal : bool
        Whether a query sees no key behind its own position; rows are aligned at their ends.
    scale : float
        Factor of the scores.
    window : tuple of int
        Keys that a query sees to the left and right of its own position, -1 for all: ``key_ranges``.
    softcap : float or None
        Bound that the scores are squashed under.
    sinks : array of shape (heads,), or None
        One more logit for each head, which takes its share of the weights and has no value.

    Returns
    -------
    out : array of shape (total_q, heads, head_dim_v), dtype of q
        0 for a query that sees no key.
    lse : array of shape (total_q, heads), dtype of q
        Log of the sum of the exponentials of the visible scores, without the sink; -inf where there are none.

    Notes
    -----
    For each row and head, over the keys that the query sees:

        S = scale * Q K^T                    Vaswani et al. 2017, eq. 1
        S = softcap * tanh(S / softcap)      Gemma 2 report 2024, section 2
        P = exp(S) / (exp(sink) + sum(exp(S)))
        out = P V;  lse = log(sum(exp(S)))

    Grouped heads are those of Ainslie et al. 2023 (GQA), sinks those of Xiao et al. 2023 (StreamingLLM) in the
    learned form of gpt-oss 2025. All in the dtype of the inputs, with the largest score subtracted first.
    Time and memory O(lq * lk * heads) for each row.

    Examples
    --------
    >>> import numpy as np
    >>> q, v = np.zeros((3, 1, 2)), np.array([1.0, 3.0, 7.0]).reshape(3, 1, 1)
    >>> options = {"causal": True, "scale": 1.0, "window": (-1, -1), "softcap": None, "sinks": None}
    >>> out, lse = varlen_attention(np, q, q, v, [0, 2, 3], [0, 2, 3], **options)
    >>> out[:, 0, 0]
    array([1., 2., 7.])
    """
    heads, head_dim_v = q.shape[1], v.shape[2]
    unseen_out, unseen_lse = _see_nothing(xp, q[:0, ...], head_dim_v)
    outs, lses = [unseen_out], [unseen_lse]
    for (q_start, q_stop), (k_start, k_stop) in zip(rows(q_offsets), rows(k_offsets), strict=True):
        if k_start == k_stop:
            out, lse = _see_nothing(xp, q[q_start:q_stop, ...], head_dim_v)
        else:
            kv_heads = k.shape[1]
            q_row = _split_heads(xp, q[q_start:q_stop, ...], kv_heads)
            k_row = _split_heads(xp, k[k_start:k_stop, ...], kv_heads)
            v_row = _split_heads(xp, v[k_start:k_stop, ...], kv_heads)
            visible = _visible(xp, q_row, k_row, causal, window)
            scores = _mask(xp, _scores(xp, q_row, k_row, scale, softcap), visible)
            weights, _ = _softmax(xp, scores, _split_sinks(xp, sinks, kv_heads))
            out = _join_heads(xp, matmul(xp, weights, v_row))
            lse = xp.reshape(_join_heads(xp, _logsumexp(xp, scores)), (q_stop - q_start, heads))
        outs.append(out)
        lses.append(lse)
    return xp.concat(outs, axis=0), xp.concat(lses, axis=0)


def varlen_attention_vjp(
    xp: Namespace,
    d_out: Any,
    d_lse: Any | None,
    q: Any,
    k: Any,
    v: Any,
    q_offsets: Any,
    k_offsets: Any,
    *,
    causal: bool,
    scale: float,
    window: tuple[int, int],
    softcap: float | None,
    sinks: Any | None,
) -> tuple[Any, Any, Any, Any | None]:
    """Return the gradients of ``varlen_attention`` with respect to q, k, v and sinks.

    Parameters
    ----------
    d_out : array of shape (total_q, heads, head_dim_v)
        Cotangent of the output.
    d_lse : array of shape (total_q, heads), or None
        Cotangent of the lse; None for zeros.
    q, k, v, q_offsets, k_offsets, causal, scale, window, softcap, sinks
        As given to ``varlen_attention``.

    Returns
    -------
    dq, dk, dv : array
        In the shapes of q, k and v; 0 for a query that sees no key and for a key that no query sees.
    d_sinks : array of shape (heads,), or None
        None where ``sinks`` is.

    Notes
    -----
    Dao 2023 (FlashAttention-2), section 2.3.1, with the terms of lse, sink and softcap added. For each row and
    head, with P the weights, P' the weights without the sink, and p the weight of the sink:

        dV = P^T dO
        dP = dO V^T;  D = rowsum(P * dP), which is also rowsum(dO * O)
        dS = P * (dP - D) + P' * dlse;  dsink = -sum(p * D)
        dS = dS * (1 - (S / softcap)^2)
        dQ = scale * dS K;  dK = scale * dS^T Q

    dK and dV are summed over the query heads of a group, dsink over all queries.
    """
    heads, kv_heads = q.shape[1], k.shape[1]
    dqs, dks, dvs = [xp.zeros_like(q[:0, ...])], [xp.zeros_like(k[:0, ...])], [xp.zeros_like(v[:0, ...])]
    d_sinks = None if sinks is None else xp.zeros_like(sinks)
    for (q_start, q_stop), (k_start, k_stop) in zip(rows(q_offsets), rows(k_offsets), strict=True):
        if q_start == q_stop or k_start == k_stop:
            dqs.append(xp.zeros_like(q[q_start:q_stop, ...]))
            dks.append(xp.zeros_like(k[k_start:k_stop, ...]))
            dvs.append(xp.zeros_like(v[k_start:k_stop, ...]))
            continue
        q_row = _split_heads(xp, q[q_start:q_stop, ...], kv_heads)
        k_row = _split_heads(xp, k[k_start:k_stop, ...], kv_heads)
        v_row = _split_heads(xp, v[k_start:k_stop, ...], kv_heads)
        d_out_row = _split_heads(xp, d_out[q_start:q_stop, ...], kv_heads)
        visible = _visible(xp, q_row, k_row, causal, window)
        scores = _scores(xp, q_row, k_row, scale, softcap)
        weights, sink_weight = _softmax(xp, _mask(xp, scores, visible), _split_sinks(xp, sinks, kv_heads))

        d_weights = matmul(xp, d_out_row, _transpose(xp, v_row))
        mean = xp.sum(weights * d_weights, axis=-1, keepdims=True)
        d_scores = weights * (d_weights - mean)
        if d_lse is not None:
            d_lse_row = _split_heads(xp, xp.reshape(d_lse[q_start:q_stop, :], (q_stop - q_start, heads, 1)), kv_heads)
            d_scores = d_scores + _softmax(xp, _mask(xp, scores, visible), None)[0] * d_lse_row
        if sinks is not None:
            d_sinks = d_sinks - xp.reshape(xp.sum(sink_weight * mean, axis=2), (heads,))
        if softcap is not None:
            squashed = scores / constant(xp, softcap, scores)
            d_scores = d_scores * (constant(xp, 1.0, scores) - squashed * squashed)
        d_scores = d_scores * constant(xp, scale, scores)

        dqs.append(_join_heads(xp, matmul(xp, d_scores, k_row)))
        dks.append(_join_heads(xp, _sum_group(xp, matmul(xp, _transpose(xp, d_scores), q_row))))
        dvs.append(_join_heads(xp, _sum_group(xp, matmul(xp, _transpose(xp, weights), d_out_row))))
    return xp.concat(dqs, axis=0), xp.concat(dks, axis=0), xp.concat(dvs, axis=0), d_sinks


# Below, one row has the shape (kv_heads, group, length, ...), so that its heads broadcast against those of its keys.


def _split_heads(xp: Namespace, x: Any, kv_heads: int) -> Any:
    """Turn ``(length, heads, feature)`` into ``(kv_heads, group, length, feature)``; group is 1 for keys."""
    length, heads, feature = x.shape
    return xp.permute_dims(xp.reshape(x, (length, kv_heads, heads // kv_heads, feature)), (1, 2, 0, 3))


def _join_heads(xp: Namespace, x: Any) -> Any:
    """Undo ``_split_heads``."""
    kv_heads, group, length, feature = x.shape
    return xp.reshape(xp.permute_dims(x, (2, 0, 1, 3)), (length, kv_heads * group, feature))


def _split_sinks(xp: Namespace, sinks: Any | None, kv_heads: int) -> Any | None:
    return None if sinks is None else xp.reshape(sinks, (kv_heads, sinks.shape[0] // kv_heads, 1, 1))


def _sum_group(xp: Namespace, x: Any) -> Any:
    return xp.sum(x, axis=1, keepdims=True)


def _transpose(xp: Namespace, x: Any) -> Any:
    return xp.permute_dims(x, (0, 1, 3, 2))


def _see_nothing(xp: Namespace, q: Any, head_dim_v: int) -> tuple[Any, Any]:
    """Return the output and lse of queries without keys."""
    zero = xp.zeros_like(q[:, :, :1])
    return xp.broadcast_to(zero, (*q.shape[:2], head_dim_v)), zero[:, :, 0] + constant(xp, -math.inf, q)


def _visible(xp: Namespace, q: Any, k: Any, causal: bool, window: tuple[int, int]) -> Any:
    """Return whether each query of one row sees each of its keys, ``(lq, lk)``."""
    lq, lk = q.shape[2], k.shape[2]
    unit = arange_like(xp, 2, xp.int32, q)  # times a length, the offsets of a batch of one
    first_row = xp.zeros_like(arange_like(xp, lq, xp.int32, q))
    k_lo, k_hi = key_ranges(xp, unit * lq, unit * lk, first_row, causal=causal, window=window)
    key = xp.reshape(arange_like(xp, lk, xp.int32, q), (1, lk))
    return (key >= xp.reshape(k_lo, (lq, 1))) & (key < xp.reshape(k_hi, (lq, 1)))


def _scores(xp: Namespace, q: Any, k: Any, scale: float, softcap: float | None) -> Any:
    scores = matmul(xp, q, _transpose(xp, k)) * constant(xp, scale, q)
    if softcap is None:
        return scores
    return xp.tanh(scores / constant(xp, softcap, q)) * constant(xp, softcap, q)


def _mask(xp: Namespace, scores: Any, visible: Any) -> Any:
    return xp.where(visible, scores, constant(xp, -math.inf, scores))


def _softmax(xp: Namespace, scores: Any, sink: Any | None) -> tuple[Any, Any | None]:
    """Return the weights of the keys and of the sink; zeros for a query without either."""
    top = xp.max(scores, axis=-1, keepdims=True)
    if sink is not None:
        top = xp.maximum(top, sink)
    nothing = top == constant(xp, -math.inf, top)
    top = xp.where(nothing, constant(xp, 0.0, top), top)
    exps = xp.exp(scores - top)
    total = xp.sum(exps, axis=-1, keepdims=True)
    if sink is None:
        return exps / xp.where(nothing, constant(xp, 1.0, total), total), None
    sink_exp = xp.exp(sink - top)
    return exps / (total + sink_exp), sink_exp / (total + sink_exp)


def _logsumexp(xp: Namespace, scores: Any) -> Any:
    """Return the log of the sum of the exponentials over the last axis, which stays; -inf for none."""
    top = xp.max(scores, axis=-1, keepdims=True)
    nothing = top == constant(xp, -math.inf, top)
    total = xp.sum(xp.exp(scores - xp.where(nothing, constant(xp, 0.0, top), top)), axis=-1, keepdims=True)
    return top + xp.log(xp.where(nothing, constant(xp, 1.0, total), total))
