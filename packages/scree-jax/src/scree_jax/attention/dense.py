"""Attention through one matrix of all queries and all keys: what forward mode and higher orders go through.

``total_q * total_k * heads`` scores exist at a time, forwards and for each step back. In return every step is
one that JAX differentiates by itself, in any mode and any number of times.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from scree_jax.attention.isolation import by_group, finite
from scree_jax.attention.options import Options
from scree_jax.attention.places import Places
from scree_jax.attention.scores import exponentials, multiply, visible_scores
from scree_jax.linear import with_transpose
from scree_jax.segments import add_by_number, spread


def dense(q: jax.Array, k: jax.Array, v: jax.Array, places: Places, options: Options) -> tuple[jax.Array, jax.Array]:
    """Return the output ``(total_q, heads, head_dim_v)`` and the lse ``(total_q, heads)``, in the dtype of q."""
    kv_heads, group = k.shape[1], q.shape[1] // k.shape[1]
    key = jnp.arange(k.shape[0], dtype=places.k_lo.dtype)
    seen = (key >= places.k_lo[:, None]) & (key < places.k_hi[:, None])

    grouped = _sound(q).reshape(q.shape[0], kv_heads, group, q.shape[2]).transpose(1, 2, 0, 3)
    keys, values = (_sound(x).transpose(1, 0, 2) for x in (k, v))
    _, visible = visible_scores(grouped, keys[:, None], seen, options.scale, options.softcap)
    weights, lse = _softmax(visible, seen)
    out = multiply("hgqk,hkd->hgqd", weights, values).transpose(2, 0, 1, 3)

    pairs = (q, places.q_ids), (k, places.k_ids), (v, places.k_ids)
    of_q, of_k, of_v = (_nothing(x, ids, options.batch, kv_heads) for x, ids in pairs)
    spoil = spread(of_q + of_k + of_v, places.q_ids)[:, :, None]
    out, lse = _sound_back(out) + spoil[..., None], _sound_back(lse.transpose(2, 0, 1)) + spoil
    return out.reshape(*q.shape[:2], v.shape[2]), lse.reshape(q.shape[:2])


@jax.custom_jvp
def _softmax(visible: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the weights, zeros where nothing is seen, and the log of the sum of the exponentials."""
    top = visible.max(axis=-1, initial=jnp.finfo(visible.dtype).min)
    exps = exponentials(visible, seen, top)
    sums = exps.sum(axis=-1)
    weights = exps / jnp.where(sums == 0, 1, sums)[..., None]
    return weights, jnp.where(sums == 0, -jnp.inf, top + jnp.log(sums))


@_softmax.defjvp
def _softmax_jvp(primals: Any, tangents: Any) -> Any:
    weights, lse = _softmax(*primals)
    weighted = weights * tangents[0]
    d_weights = weighted - weights * weighted.sum(axis=-1, keepdims=True)
    # Written so that the transpose is weights * (d - mean of d) + weights * d_lse: of a lone key, d - mean is 0.
    return (weights, lse), (d_weights, (weights * tangents[0]).sum(axis=-1))


# What keeps NaN in its row, as ``isolation`` says, here for values, tangents and cotangents alike.


def _sound(x: jax.Array) -> jax.Array:
    """Return the array with 0 for what isn't finite, in tangents too; cotangents come back as they are."""
    return with_transpose(finite, lambda d: d, x)


def _sound_back(x: jax.Array) -> jax.Array:
    """Return the array as it is, and its cotangent with 0 for what isn't finite."""
    return with_transpose(lambda x: x, finite, x)


def _nothing(x: jax.Array, segment_ids: jax.Array, batch: int, kv_heads: int) -> jax.Array:
    """Return 0 for each row and kv head, ``(batch, kv_heads)``, which NaN makes NaN on its way forth and back."""
    return add_by_number(by_group(0 * x, kv_heads).sum(axis=-1), segment_ids, batch)
