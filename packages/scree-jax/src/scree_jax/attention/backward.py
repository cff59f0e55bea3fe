"""The gradient of attention tile by tile, with the scores computed again."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from scree_jax.attention.options import Options
from scree_jax.attention.scores import dot_last, exponentials, multiply, uncapped, visible_scores
from scree_jax.attention.tiles import block_range, from_tiles, tile_size, to_tiles, visible
from scree_jax.varying import varying_like, zeros_beside


def backward(
    d_out: jax.Array,
    d_lse: jax.Array,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    k_lo: jax.Array,
    k_hi: jax.Array,
    out: jax.Array,
    top: jax.Array,
    sums: jax.Array,
    options: Options,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the gradients of q, k and v from those of the output and of the log-sum-exp.

    Parameters
    ----------
    d_out, d_lse : array of shape (total_q, heads, head_dim_v) and (total_q, heads)
        Cotangents; finite, like q, k and v.
    q, k, v, k_lo, k_hi, options
        As given to ``forward``.
    out, top, sums : array
        What it returned.

    Notes
    -----
    Dao 2023 (FlashAttention-2), section 2.3.1, with lse and softcap: see ``reference.varlen_attention_vjp``.
    A tile's dq is added up over its blocks, dk and dv over all tiles. Two details are for the rounding of
    float32. Weights are ``exp(score - top) / sums``: a rounded ``exp(score - lse)`` would be off by the rounding
    of the lse, which grows with the scores. And the mean of the weights' gradients, which is subtracted from
    each of them, is taken over these where a tile has no more than two blocks, for of few numbers it should be exact;
    over more, it is ``d_out * out``, as in the paper, without a second pass.
    """
    heads, kv_heads = q.shape[1], k.shape[1]
    (_, scale, softcap, tile), block = options, tile_size(k.shape[0], options.tile)
    lo, hi, first, stop = block_range(k_lo, k_hi, tile, block)
    keys, values = to_tiles(k, kv_heads, tile), to_tiles(v, kv_heads, tile)
    per_query = jnp.stack([top, sums, dot_last(d_out, out), d_lse], axis=-1)

    def one_tile(grads: Any, tile: tuple[jax.Array, ...]) -> Any:
        q, d_out, per_query, lo, hi, first, stop = tile
        top, sums, mean, d_lse = (per_query[..., i] for i in range(4))
        sums = jnp.where(sums == 0, 1, sums)  # queries that see nothing, and those that fill up the last tile

        def weighed(j: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            seen = visible(lo, hi, j, block, heads // kv_heads)
            found, visible_ones = visible_scores(q, keys[j], seen, scale, softcap)
            weights = exponentials(visible_ones, seen, top) / sums[..., None]
            return found, weights, multiply("hqd,hkd->hqk", d_out, values[j])

        def exact_mean(j: jax.Array, mean: jax.Array) -> jax.Array:
            _, weights, d_weights = weighed(j)
            return mean + (weights * d_weights).sum(axis=-1)

        few = stop - first <= 2
        mean = varying_like(jnp.where(few, 0, mean), *beside)
        mean = lax.fori_loop(first, jnp.where(few, stop, first), exact_mean, mean)

        def one_block(j: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            dq, dk, dv = carry
            found, weights, d_weights = weighed(j)
            d_scores = weights * (d_weights - mean[..., None] + d_lse[..., None])
            d_products = uncapped(d_scores, found, scale, softcap)
            dq = dq + multiply("hqk,hkd->hqd", d_products, keys[j])
            dk = dk.at[j].add(multiply("hqk,hqd->hkd", d_products, q))
            dv = dv.at[j].add(multiply("hqk,hqd->hkd", weights, d_out))
            return dq, dk, dv

        dq, *grads = lax.fori_loop(first, stop, one_block, (zeros_beside(q.shape, q.dtype, *beside), *grads))
        return tuple(grads), dq

    beside = q, k, v, k_lo, d_out
    zeros = (zeros_beside(x.shape, x.dtype, *beside) for x in (keys, values))
    tiles = *(to_tiles(x, kv_heads, tile) for x in (q, d_out, per_query)), lo, hi, first, stop
    (dk, dv), dq = lax.scan(one_tile, tuple(zeros), tiles)
    total_q, total_k = q.shape[0], k.shape[0]
    return from_tiles(dq, total_q, heads), from_tiles(dk, total_k, kv_heads), from_tiles(dv, total_k, kv_heads)
