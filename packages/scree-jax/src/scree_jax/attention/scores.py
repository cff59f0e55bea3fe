"""The scores of some queries and keys, their exponentials, and the way back through both.

Forward and backward share these, down to the order of steps: a score that the compiler rounds in another way
would not belong to the maximum that was kept, and large scores show that.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from scree_jax.precision import matmul_precision


def multiply(formula: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a product of matrices, in the precision of its dtype."""
    return jnp.einsum(formula, a, b, precision=matmul_precision())


def visible_scores(
    q: jax.Array, k: jax.Array, seen: jax.Array, scale: float, softcap: float | None
) -> tuple[jax.Array, jax.Array]:
    """Return ``scale * q k^T``, capped, and the same with the least number for what isn't ``seen``.

    ``(..., queries, dim)`` and ``(..., keys, dim)`` give ``(..., queries, keys)``.
    """
    found = multiply("...qd,...kd->...qk", q, k) * scale
    if softcap is not None:
        found = jnp.tanh(found / softcap) * softcap
    return found, jnp.where(seen, found, jnp.finfo(found.dtype).min)


def exponentials(visible: jax.Array, seen: jax.Array, top: jax.Array) -> jax.Array:
    """Return ``exp(score - top)``, 0 for what isn't ``seen``, even where nothing is; top is ``(..., queries)``."""
    return jnp.where(seen, jnp.exp(visible - top[..., None]), 0)


def uncapped(d_scores: jax.Array, found: jax.Array, scale: float, softcap: float | None) -> jax.Array:
    """Return the cotangent of ``q k^T`` from that of the scores."""
    if softcap is not None:
        d_scores = d_scores * (1 - (found / softcap) ** 2)
    return d_scores * scale


def dot_last(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the sum of ``a * b`` over the last axis, in eight sums that are then added up in pairs.

    XLA adds one element after the other, which for 8 elements already rounds six times as much.
    """
    products = a * b
    dim = products.shape[-1]
    products = jnp.pad(products, (*((0, 0),) * (a.ndim - 1), (0, -dim % 8)))
    sums = products.reshape(*products.shape[:-1], -(-dim // 8), 8).sum(axis=-2)
    for half in (4, 2, 1):
        sums = sums[..., :half] + sums[..., half : 2 * half]
    return sums[..., 0]
