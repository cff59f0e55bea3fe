"""Attention in MLX as it is written without scree, from packed arrays to packed arrays, evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from competitors.candidate import Candidate
from workloads import Attention

import scree

Attend = Callable[[mx.array, mx.array, mx.array], mx.array]


def candidates(workload: Attention) -> dict[str, Candidate]:
    """Return scree, and ``mx.fast`` row by row and padded."""
    q, k, v = (mx.array(x) for x in workload.qkv())
    shape = (q.shape[0], workload.heads, workload.head_dim)
    cotangent = mx.array(np.random.default_rng(9).standard_normal(shape, np.float32))
    mx.eval(q, k, v, cotangent)
    layout = scree.from_lengths(q, workload.lengths)

    def with_scree(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        rows = (layout.with_values(x) for x in (q, k, v))
        return scree.varlen_attention(*rows, causal=workload.causal).values

    ways: dict[str, Attend] = {
        "scree": with_scree,
        "mx.fast by row": by_row(workload),
        "padded mx.fast": padded(workload),
    }
    return {name: candidate(attend, (q, k, v), cotangent) for name, attend in ways.items()}


def candidate(attend: Attend, qkv: tuple[mx.array, ...], cotangent: mx.array) -> Candidate:
    """Return both calls of a way to attend, each evaluated."""

    def forward() -> mx.array:
        out = attend(*qkv)
        mx.eval(out)
        return out

    def step() -> tuple[mx.array, ...]:
        _, grads = mx.vjp(lambda q, k, v: [attend(q, k, v)], list(qkv), [cotangent])
        mx.eval(grads)
        return tuple(grads)

    return Candidate(forward, step, np.asarray)


def by_row(workload: Attention) -> Attend:
    """Call ``mx.fast`` for each row. Cut by ``mx.split``, whose gradient fills no array of full size for each row."""
    cuts, mask = np.cumsum(workload.lengths)[:-1].tolist(), "causal" if workload.causal else None

    def attend(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        rows = zip(*(mx.split(x.swapaxes(0, 1)[None], cuts, axis=2) for x in (q, k, v)), strict=True)
        return mx.concatenate([_fast(*row, mask=mask) for row in rows], axis=2)[0].swapaxes(0, 1)

    return attend


def padded(workload: Attention) -> Attend:
    """Pad to the longest row and drop the padding, one gather each; causal attention never sees the padding."""
    lengths = np.array(workload.lengths)
    total, width = lengths.sum(), lengths.max()
    real = np.arange(width) < lengths[:, None]
    starts = np.cumsum(lengths) - lengths
    source = mx.array(np.where(real, starts[:, None] + np.arange(width), total).astype(np.int32))
    back = mx.array(np.flatnonzero(real).astype(np.int32))
    mask: Any = "causal" if workload.causal else mx.array(real[:, None, None])

    def pad(x: mx.array) -> mx.array:
        return mx.concatenate([x, mx.zeros((1, *x.shape[1:]), x.dtype)])[source].swapaxes(1, 2)

    def attend(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        out = _fast(pad(q), pad(k), pad(v), mask=mask).swapaxes(1, 2)
        return out.reshape(-1, *out.shape[2:])[back]

    return attend


def _fast(q: mx.array, k: mx.array, v: mx.array, mask: Any) -> mx.array:
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask)
