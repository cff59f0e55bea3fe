"""Attention tile by tile, with the softmax taken along the way."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from scree_jax.attention.options import Options
from scree_jax.attention.scores import exponentials, multiply, visible_scores
from scree_jax.attention.tiles import block_range, from_tiles, tile_size, to_tiles, visible
from scree_jax.varying import zeros_beside


def forward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    k_lo: jax.Array,
    k_hi: jax.Array,
    options: Options,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Attend from each query to the keys of its range.

    Parameters
    ----------
    q, k, v : array of shape (total_q, heads, head_dim), (total_k, kv_heads, head_dim or head_dim_v)
        Finite: a product with the weight 0 must be 0. float32 or float64.
    k_lo, k_hi : array of int of shape (total_q,)
        The keys that each query sees.

    Returns
    -------
    out : array of shape (total_q, heads, head_dim_v)
    top, sums : array of shape (total_q, heads)
        The largest visible score, and the sum of the exponentials relative to it: 0 where a query sees nothing.

    Notes
    -----
    Online softmax (Milakov & Gimelshein 2018) over blocks of keys, as FlashAttention (Dao et al. 2022) has it:
    no more than ``tile * block`` scores of each head exist at a time. Tiles run one after another, and each
    loops over the blocks between its first and its last visible key.
    """
    heads, kv_heads, total = q.shape[1], k.shape[1], q.shape[0]
    (_, scale, softcap, tile), block = options, tile_size(k.shape[0], options.tile)
    lo, hi, first, stop = block_range(k_lo, k_hi, tile, block)
    keys, values = to_tiles(k, kv_heads, tile), to_tiles(v, kv_heads, tile)

    def one_tile(tile: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        q, lo, hi, first, stop = tile

        def one_block(j: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            top, sums, out = carry
            seen = visible(lo, hi, j, block, heads // kv_heads)
            _, found = visible_scores(q, keys[j], seen, scale, softcap)
            new_top = jnp.maximum(top, found.max(axis=-1))
            weights = exponentials(found, seen, new_top)
            faded = jnp.exp(top - new_top)
            added = multiply("hqk,hkd->hqd", weights, values[j])
            return new_top, sums * faded + weights.sum(axis=-1), out * faded[..., None] + added

        zeros = zeros_beside(q.shape[:2], q.dtype, q, keys, values, lo)
        no_out = jnp.zeros((*q.shape[:2], v.shape[2]), q.dtype) + zeros[..., None]
        nothing = zeros + jnp.finfo(q.dtype).min, zeros, no_out
        top, sums, out = lax.fori_loop(first, stop, one_block, nothing)
        return top, sums, out / jnp.where(sums == 0, 1, sums)[..., None]

    top, sums, out = lax.map(one_tile, (to_tiles(q, kv_heads, tile), lo, hi, first, stop))
    top, sums = (from_tiles(x[..., None], total, heads)[..., 0] for x in (top, sums))
    return from_tiles(out, total, heads), top, sums
