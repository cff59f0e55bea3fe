"""Running sum within each row: one program for a shape, whatever the offsets, in the dtype of its input."""

from __future__ import annotations

from math import isqrt

import jax
import jax.numpy as jnp
from jax import lax

from scree_jax.linear import with_transpose
from scree_jax.varying import zeros_beside

Sum = tuple[jax.Array, jax.Array]
"""A rounded sum, and what was lost in rounding."""


@jax.jit
def cumsum(x: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """Sum each row up to and including each element; integers in the dtype that JAX sums them in."""
    dtype = jax.eval_shape(jnp.sum, x).dtype
    if x.size == 0:
        return x.astype(dtype)
    changes = segment_ids[1:] != segment_ids[:-1]
    end = jnp.ones(1, bool)
    first, last = jnp.concatenate([end, changes]), jnp.concatenate([changes, end])
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return _running_sum(x.astype(dtype), first)
    return with_transpose(_forwards, _backwards, x, first, last)


def _forwards(x: jax.Array, first: jax.Array, last: jax.Array) -> jax.Array:
    return _running_sum(x, first)


def _backwards(d_out: jax.Array, first: jax.Array, last: jax.Array) -> jax.Array:
    return _running_sum(d_out[::-1], last[::-1])[::-1]


def _running_sum(x: jax.Array, first: jax.Array) -> jax.Array:
    """Add up ``(total, *features)`` from each element that is the ``first`` of a row.

    In about sqrt(total) stretches side by side, then from stretch to stretch. A sum of what isn't of the row is
    never formed, so nothing has to be subtracted, and no NaN gets out of its row. What rounding loses is kept
    beside each sum, so that a row's result doesn't show where it lies in the batch. ``lax.associative_scan`` would
    take 10 s to compile, and 88 ms to run, for 2**20 x 8 numbers.
    """
    total, features = x.shape[0], x.shape[1:]
    stretches = isqrt(total - 1) + 1
    steps = -(-total // stretches)
    missing = steps * stretches - total
    x = jnp.pad(x, ((0, missing), *((0, 0),) * len(features))).reshape(stretches, steps, *features)
    first = jnp.pad(first, (0, missing), constant_values=True).reshape(stretches, steps, *(1,) * len(features))

    within, _ = _scan((x.swapaxes(0, 1), jnp.zeros_like(x).swapaxes(0, 1)), first.swapaxes(0, 1))
    whole, lost = (part.swapaxes(0, 1) for part in within)
    _, before = _scan((whole[:, -1], lost[:, -1]), first.any(axis=1))
    open_still = lax.cummax(first.astype(jnp.int8), axis=1) == 0
    whole, lost = _add((whole, lost), _where(open_still, (before[0][:, None], before[1][:, None])))
    return (whole + lost).reshape(steps * stretches, *features)[:total]


def _scan(x: Sum, first: jax.Array) -> tuple[Sum, Sum]:
    """Add up along the first axis, and return the sums with and without each element."""

    def step(so_far: Sum, item: tuple[Sum, jax.Array]) -> tuple[Sum, tuple[Sum, Sum]]:
        x, first = item
        new = _add(x, _where(~first, so_far))
        return new, (new, so_far)

    zeros = zeros_beside(x[0].shape[1:], x[0].dtype, x[0], first)
    return lax.scan(step, (zeros, zeros), (x, first))[1]


def _where(condition: jax.Array, x: Sum) -> Sum:
    return jnp.where(condition, x[0], 0), jnp.where(condition, x[1], 0)


def _add(a: Sum, b: Sum) -> Sum:
    """Add two sums with what they have lost: the error of one addition is a number again (Knuth, TAOCP 2, 4.2.2)."""
    whole = a[0] + b[0]
    of_b = whole - a[0]
    error = (a[0] - (whole - of_b)) + (b[0] - of_b)
    return whole, a[1] + b[1] + jnp.where(jnp.isfinite(whole), error, 0)
