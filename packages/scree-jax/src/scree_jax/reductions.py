"""One value for each row: sum, mean, maximum, minimum and log-sum-exp.

Each is one program for a shape, whatever the offsets. They compute in the dtype of their input.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from scree_jax.linear import with_transpose
from scree_jax.segments import add_rows, column, spread
from scree_jax.softmax import exponentials, softmax_of_rows


@partial(jax.jit, static_argnames="empty")
def row_sum(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array, *, empty: Any) -> jax.Array:
    """Sum each row; integers in the dtype that JAX sums them in."""
    x = x.astype(jax.eval_shape(jnp.sum, x).dtype)
    return _or_empty(add_rows(x, segment_ids, offsets), offsets, empty)


@partial(jax.jit, static_argnames="empty")
def row_mean(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array, *, empty: Any) -> jax.Array:
    """Average each row."""
    sums = add_rows(x, segment_ids, offsets)
    counts = jnp.maximum(jnp.diff(offsets), 1).astype(sums.dtype)
    return _or_empty(sums / column(counts, sums), offsets, empty)


@partial(jax.jit, static_argnames="empty")
def row_max(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array, *, empty: Any) -> jax.Array:
    """Take each row's largest element."""
    return _or_empty(_largest(x, segment_ids, offsets), offsets, empty)


@partial(jax.jit, static_argnames="empty")
def row_min(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array, *, empty: Any) -> jax.Array:
    """Take each row's smallest element."""
    return _or_empty(_smallest(x, segment_ids, offsets), offsets, empty)


@partial(jax.jit, static_argnames="empty")
def row_logsumexp(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array, *, empty: Any) -> jax.Array:
    """Take the log of the sum of each row's exponentials."""
    return _or_empty(_logsumexp(x, segment_ids, offsets), offsets, empty)


@jax.jit
def repeat(dense: jax.Array, segment_ids: jax.Array, offsets: jax.Array) -> jax.Array:
    """Give each element its row's entry; the gradient adds up each row's elements."""
    if not jnp.issubdtype(dense.dtype, jnp.floating):
        return spread(dense, segment_ids)
    return with_transpose(lambda x, ids, _: spread(x, ids), add_rows, dense, segment_ids, offsets)


def _or_empty(rows: jax.Array, offsets: jax.Array, empty: Any) -> jax.Array:
    """Put ``empty`` where a row has no element."""
    value = float(empty) if jnp.issubdtype(rows.dtype, jnp.floating) else int(empty)
    return jnp.where(column(jnp.diff(offsets) > 0, rows), rows, jnp.asarray(value, rows.dtype))


@jax.custom_jvp
def _largest(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array) -> jax.Array:
    return jax.ops.segment_max(x, segment_ids, offsets.shape[0] - 1, indices_are_sorted=True)


@jax.custom_jvp
def _smallest(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array) -> jax.Array:
    return jax.ops.segment_min(x, segment_ids, offsets.shape[0] - 1, indices_are_sorted=True)


@_largest.defjvp
def _largest_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    out = _largest(*primals)
    return out, _chosen_mean(out, primals, tangents[0])


@_smallest.defjvp
def _smallest_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    out = _smallest(*primals)
    return out, _chosen_mean(out, primals, tangents[0])


def _chosen_mean(out: jax.Array, primals: Any, d_x: jax.Array) -> jax.Array:
    """Average the tangents of the elements that equal their row's result: ties share it. None equals a NaN."""
    x, segment_ids, offsets = primals
    chosen = x == spread(out, segment_ids)
    ties = add_rows(chosen.astype(x.dtype), segment_ids, offsets)
    return add_rows(jnp.where(chosen, d_x, 0), segment_ids, offsets) / jnp.maximum(ties, 1)


@jax.custom_jvp
def _logsumexp(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array) -> jax.Array:
    _, sums, top = exponentials(x, segment_ids, offsets)
    return top + jnp.log(sums)


@_logsumexp.defjvp
def _logsumexp_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    _, segment_ids, offsets = primals
    weights = softmax_of_rows(*primals)
    return _logsumexp(*primals), add_rows(weights * tangents[0], segment_ids, offsets)
