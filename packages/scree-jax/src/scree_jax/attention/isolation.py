"""Keeping what isn't finite in its row of the batch.

A tile, or a matrix of all queries and keys, holds several rows, and its products weigh what a query doesn't see
with 0: 0 times NaN is NaN. So they get zeros in place of NaN and infinity, and afterwards the rows that had any
are made NaN: outputs, if it was in q, k or v, and gradients, if it was there or in a cotangent. Query heads that
share their keys are spoiled together.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from scree_jax.segments import add_by_number, spread


def finite(x: jax.Array) -> jax.Array:
    """Return the array with 0 for NaN and infinity."""
    return jnp.where(jnp.isfinite(x), x, 0)


def marks(segment_ids: jax.Array, batch: int, kv_heads: int, *arrays: jax.Array) -> jax.Array:
    """Return ``(batch, kv_heads)``: NaN for a row that isn't all finite in arrays ``(total, heads, dim)``, else 0."""
    sound = jnp.ones((segment_ids.shape[0], kv_heads), bool)
    for x in arrays:
        sound &= jnp.isfinite(by_group(x, kv_heads)).all(axis=-1)
    return add_by_number(jnp.where(sound, 0, jnp.nan).astype(arrays[0].dtype), segment_ids, batch)


def spoiled(x: jax.Array, marks: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """Return ``(total, heads, ...)`` with NaN all over the rows that are marked."""
    return (by_group(x, marks.shape[1]) + spread(marks, segment_ids)[..., None]).reshape(x.shape)


def by_group(x: jax.Array, kv_heads: int) -> jax.Array:
    """Put all that goes with one kv head in one axis, ``(total, kv_heads, all)``."""
    return x.reshape(x.shape[0], kv_heads, math.prod(x.shape[1:]) // kv_heads)
