"""Softmax over each row: one program for a shape, whatever the offsets, in the dtype of its input."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from scree_jax.segments import add_rows, spread


@jax.jit
def softmax(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array) -> jax.Array:
    """Turn each row into weights that sum to 1, for each feature by itself; zeros where all of a row is -inf."""
    return softmax_of_rows(x, segment_ids, offsets)


@jax.custom_jvp
def softmax_of_rows(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array) -> jax.Array:
    """Return the weights, in the dtype of x, and differentiable in either mode."""
    exps, sums, top = exponentials(x, segment_ids, offsets)
    weights = exps / spread(sums, segment_ids, fill=1)
    top = spread(top, segment_ids)
    return jnp.where(jnp.isinf(top), jnp.where(top > 0, jnp.nan, 0.0).astype(x.dtype), weights)


@softmax_of_rows.defjvp
def _softmax_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    x, segment_ids, offsets = primals
    y = softmax_of_rows(x, segment_ids, offsets)
    weighted = y * tangents[0]
    # Written so that the transpose is y * (d - mean of d), which rounds once where this rounds twice.
    return y, weighted - y * spread(add_rows(weighted, segment_ids, offsets), segment_ids)


def exponentials(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return ``exp(x - top)``, its sum over each row, and each row's maximum ``top``.

    Where a top is infinite, it is the answer already: the exponentials are then 1, for inf - inf means nothing.
    """
    top = jax.ops.segment_max(x, segment_ids, offsets.shape[0] - 1, indices_are_sorted=True)
    infinite = jnp.isinf(top)
    shift = spread(jnp.where(infinite, 0, top), segment_ids)
    exps = jnp.exp(jnp.where(spread(infinite, segment_ids), 0, x) - shift)
    return exps, add_rows(exps, segment_ids, offsets), top
