"""Attention of rows that lie side by side on a rectangle: by ``mx.fast``, and by the formula where it can't."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import mlx.core as mx

from scree_mlx.choice import where
from scree_mlx.custom_gradient import custom_gradient
from scree_mlx.exponential import weight
from scree_mlx.rectangles import Rectangle


class Options(NamedTuple):
    """How attention is to be computed, as ``Backend.varlen_attention`` is told."""

    causal: bool
    scale: float
    window: tuple[int, int]
    softcap: float | None


def visible(q: Rectangle, k: Rectangle, options: Options, *, aligned: bool) -> mx.array | str | None:
    """Return which keys each query sees, as ``mx.fast.scaled_dot_product_attention`` takes it.

    Parameters
    ----------
    q, k : Rectangle
        Of the same rows.
    options : Options
    aligned : bool
        Whether each row has as many keys as queries.

    Returns
    -------
    bool array of shape (rows, 1, queries or 1, keys), "causal" or None for all
        What a query in an empty cell sees doesn't matter.
    """
    left, right = options.window
    if options.causal:
        right = 0
    if right == 0 and left < 0 and (aligned or (q.full and k.full and q.width <= k.width)):
        return "causal"  # padding is on the right, behind every query's position
    if right < 0 and left < 0 and k.full:
        return None
    key = mx.arange(k.width, dtype=mx.int32)
    seen = key < k.lengths[:, None, None, None]
    if left < 0 and right < 0:
        return seen
    # Bottom right: the last query sits at the last key.
    at = mx.arange(q.width, dtype=mx.int32)[:, None] + (k.lengths - q.lengths)[:, None, None, None]
    if left >= 0:
        seen = seen & (key >= at - left)
    return seen & (key <= at + right) if right >= 0 else seen


def by_fast(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    sinks: mx.array | None,
    mask: mx.array | str | None,
    scale: float,
    *,
    all_see: bool,
) -> mx.array:
    """Return the output ``(rows, queries, heads, head_dim_v)`` of ``mx.fast.scaled_dot_product_attention``.

    Parameters
    ----------
    q, k, v : array of shape (rows, queries or keys, heads or kv_heads, head_dim)
    sinks : array of shape (heads,), optional
    mask
        What ``visible`` gives.
    scale : float
    all_see : bool
        Whether every query that counts sees a key; ``mx.fast`` gives others the mean of all values.

    Notes
    -----
    On CUDA the gradient is MLX's own, which cuDNN computes. Elsewhere it is the formula's, in float32: MLX's would
    keep every weight, and was out of the error budget on the CPU (mlx 0.32.4).
    """

    def forward(q: mx.array, k: mx.array, v: mx.array, seen: mx.array, *sinks: mx.array) -> mx.array:
        given: Any = seen if isinstance(mask, mx.array) else mask
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=given, sinks=sinks[0] if sinks else None)
        if not all_see and isinstance(mask, mx.array):
            out = where(seen.any(axis=-1, keepdims=True), out, mx.zeros((), dtype=out.dtype))
        return out.transpose(0, 2, 1, 3)

    def backward(primals: Any, cotangent: mx.array, output: mx.array) -> list[mx.array]:
        wide = [x if x.dtype == mx.bool_ else x.astype(mx.float32) for x in primals]
        found = _backward(tuple(wide), cotangent.astype(mx.float32), None, scale, None)
        return [g.astype(x.dtype) for g, x in zip(found, primals, strict=True)]

    own = mx.cuda.is_available() and mx.default_device().type == mx.gpu
    attend = forward if own else custom_gradient(backward)(forward)
    return attend(q, k, v, _as_array(mask, q.shape[1], k.shape[1]), *(() if sinks is None else (sinks,)))


def by_formula(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    sinks: mx.array | None,
    mask: mx.array | str | None,
    scale: float,
    softcap: float | None,
) -> tuple[mx.array, mx.array]:
    """Return the output and the log-sum-exp ``(rows, queries, heads)``; float32 or wider, arguments as ``by_fast``'s.

    Notes
    -----
    The gradient computes the scores again: nothing but arguments and results is kept for it.
    """
    seen = _as_array(mask, q.shape[1], k.shape[1])

    def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        d_out, d_lse = cotangents
        return _backward(primals, d_out, d_lse, scale, softcap)

    @custom_gradient(backward)
    def formula(q: mx.array, k: mx.array, v: mx.array, seen: mx.array, *sinks: mx.array) -> tuple[mx.array, mx.array]:
        return _forward(q, k, v, seen, sinks, scale, softcap)

    return formula(q, k, v, seen, *(() if sinks is None else (sinks,)))


def _as_array(mask: mx.array | str | None, queries: int, keys: int) -> mx.array:
    if mask is None:
        return mx.ones((1, 1, 1, 1), dtype=mx.bool_)
    if isinstance(mask, mx.array):
        return mask
    return (mx.arange(keys) <= mx.arange(queries)[:, None] + (keys - queries))[None, None]


def _forward(
    q: mx.array, k: mx.array, v: mx.array, seen: mx.array, sinks: tuple[mx.array, ...], scale: float, cap: float | None
) -> tuple[mx.array, mx.array]:
    kv_heads = k.shape[2]
    scores, _ = _scores(_split(q, kv_heads), _split(k, kv_heads), seen, scale, cap)
    weights, total, top = _exponentials(scores)
    lse = top + mx.log(total)
    weights = _softmax(scores, sinks)[0] if sinks else weights / mx.where(total == 0, 1, total)
    return _join(weights @ _split(v, kv_heads)), _join(lse)[..., 0]


def _backward(
    primals: tuple[mx.array, ...], d_out: mx.array, d_lse: mx.array | None, scale: float, cap: float | None
) -> tuple[mx.array, ...]:
    q, k, v, seen, *sinks = primals
    kv_heads = k.shape[2]
    q_heads, k_heads, v_heads, d_out = (_split(x, kv_heads) for x in (q, k, v, d_out))
    scores, slope = _scores(q_heads, k_heads, seen, scale, cap)
    weights, share = _softmax(scores, tuple(sinks))
    d_weights = d_out @ v_heads.swapaxes(-1, -2)
    mean = mx.sum(weights * d_weights, axis=-1, keepdims=True)
    d_scores = weights * (d_weights - mean)
    if d_lse is not None:
        plain = _softmax(scores, ())[0] if sinks else weights  # the log-sum-exp is without the sink
        d_scores = d_scores + plain * _split(d_lse[..., None], kv_heads)
    d_scores = d_scores * slope * scale
    d_k = mx.sum(d_scores.swapaxes(-1, -2) @ q_heads, axis=2, keepdims=True)
    d_v = mx.sum(weights.swapaxes(-1, -2) @ d_out, axis=2, keepdims=True)
    grads = (_join(d_scores @ k_heads), _join(d_k), _join(d_v), mx.zeros_like(seen))
    return (*grads, -mx.sum(share * mean, axis=(0, 3, 4)).reshape(-1)) if sinks else grads


def _exponentials(scores: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Return ``exp(scores - top)``, its sum, and ``top``: the largest score, or 0 for a query that sees nothing."""
    top = mx.max(scores, axis=-1, keepdims=True)
    top = mx.where(top == -math.inf, 0, top)
    weights = weight(scores - top)
    return weights, mx.sum(weights, axis=-1, keepdims=True), top


def _softmax(scores: mx.array, sinks: tuple[mx.array, ...]) -> tuple[mx.array, mx.array]:
    """Return the weights, and the weight of the sink, 0 without one."""
    weights, total, top = _exponentials(scores)
    if not sinks:
        return weights / mx.where(total == 0, 1, total), mx.zeros_like(total)
    sink = sinks[0].reshape(1, scores.shape[1], -1, 1, 1)
    above = mx.maximum(top, sink)
    shrunk, share = weight(top - above), weight(sink - above)
    total = total * shrunk + share
    return weights * (shrunk / total), share / total


def _scores(
    q: mx.array, k: mx.array, seen: mx.array, scale: float, cap: float | None
) -> tuple[mx.array, mx.array | float]:
    """Return the scores, ``-inf`` where a key isn't seen, and the slope of the cap."""
    scores = (q @ k.swapaxes(-1, -2)) * scale
    slope: mx.array | float = 1.0
    if cap is not None:
        squashed = mx.tanh(scores / cap)
        scores, slope = squashed * cap, 1 - squashed * squashed
    return mx.where(seen[:, None], scores, -math.inf), slope


# Below, (rows, kv_heads, group, queries or keys, feature): heads that share a key head broadcast against it.


def _split(x: mx.array, kv_heads: int) -> mx.array:
    rows, width, heads, feature = x.shape
    return x.reshape(rows, width, kv_heads, heads // kv_heads, feature).transpose(0, 2, 3, 1, 4)


def _join(x: mx.array) -> mx.array:
    rows, kv_heads, group, width, feature = x.shape
    return x.transpose(0, 3, 1, 2, 4).reshape(rows, width, kv_heads * group, feature)
