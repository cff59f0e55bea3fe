"""Attention in JAX as it is written without scree, jitted, from packed arrays to packed arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from competitors.candidate import Candidate
from workloads import Attention

import scree

Attend = Callable[..., jax.Array]
"""``attend(q, k, v, *where)``, with what it must know of the rows in arrays, so that other rows compile nothing."""


def candidates(workload: Attention) -> dict[str, Candidate]:
    """Return scree on a bucketed batch, and ``jax.nn`` padded, and over all queries and keys at once."""
    shape = (sum(workload.lengths), workload.heads, workload.head_dim)
    arrays = *workload.qkv(), np.random.default_rng(9).standard_normal(shape, np.float32)
    return {
        "scree": with_scree(workload, *arrays),
        "padded jax.nn": padded(workload, *arrays),
        "dense jax.nn": dense(workload, *arrays),
    }


def with_scree(workload: Attention, *arrays: np.ndarray) -> Candidate:
    """Round the batch up on the host, as a training loop does to compile a handful of times, and keep it so."""
    bucketed = [scree.bucket(scree.from_lengths(x, workload.lengths)) for x in arrays]

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, offsets: jax.Array) -> jax.Array:
        rows = (scree.Array(x, offsets, tail=True) for x in (q, k, v))
        return scree.varlen_attention(*rows, causal=workload.causal).values

    return candidate(workload, attend, [x.values for x in bucketed], [bucketed[0].offsets])


def padded(workload: Attention, *arrays: np.ndarray) -> Candidate:
    """Pad to the longest row and drop the padding, one gather each; causal attention never sees the padding."""
    source, back, real = cells(workload.lengths)

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, source: jax.Array, back: jax.Array, real: Any) -> jax.Array:
        rectangles = (x.at[source].get(mode="fill", fill_value=0) for x in (q, k, v))
        mask = None if workload.causal else real[:, None, None]
        out = jax.nn.dot_product_attention(*rectangles, mask=mask, is_causal=workload.causal)
        return out.reshape(-1, *out.shape[2:])[back]

    return candidate(workload, attend, arrays, [source, back, real])


def cells(lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which element each cell of a rectangle holds, the total for none; the cells that hold one; and a mask."""
    length = np.array(lengths)
    real = np.arange(length.max()) < length[:, None]
    starts = np.cumsum(length) - length
    source = np.where(real, starts[:, None] + np.arange(length.max()), length.sum())
    return source, np.flatnonzero(real), real


def dense(workload: Attention, *arrays: np.ndarray) -> Candidate:
    """Attend over all queries and keys, with a mask that leaves each row its own."""
    ids = np.repeat(np.arange(len(workload.lengths)), workload.lengths)

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, ids: jax.Array) -> jax.Array:
        mask = ids[:, None] == ids
        return jax.nn.dot_product_attention(q[None], k[None], v[None], mask=mask, is_causal=workload.causal)[0]

    return candidate(workload, attend, arrays, [ids])


def candidate(workload: Attention, attend: Attend, arrays: Any, where: Any) -> Candidate:
    """Return both calls of a way to attend, each jitted whole."""
    *qkv, cotangent = (jnp.asarray(x) for x in arrays)
    where = [jnp.asarray(x) for x in where]
    run = jax.jit(attend)

    @jax.jit
    def pull(qkv: Any, where: Any, cotangent: jax.Array) -> Any:
        return jax.vjp(lambda *x: attend(*x, *where), *qkv)[1](cotangent)

    def forward() -> jax.Array:
        return jax.block_until_ready(run(*qkv, *where))

    def step() -> Any:
        return jax.block_until_ready(pull(qkv, where, cotangent))

    total = sum(workload.lengths)  # behind it lies the tail of a bucketed batch
    return Candidate(forward, step, lambda x: np.asarray(x)[:total])
