"""How attention is cut up: tiles of consecutive queries, each with the blocks of keys that it needs.

A tile runs on across the ends of rows, and so do blocks: nothing depends on where rows begin but numbers, and
rows of one element fill tiles as well as long ones. What a query of the tile must not see is masked.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

TILE = {"cpu": 64}
"""Queries of a tile, and keys of a block, by platform; ``LARGE`` on others."""
LARGE = 512
"""For devices that do much at a time, while tiles go one after another.

H100, JAX 0.11.2, 32 query heads on 8, head_dim 128, causal, forward and step: 64 log-normal rows of mean 512 took
157 and 430 ms in tiles of 64, 41 and 122 in 256, 36 and 123 in 512; 16 rows of 2,048 309 and 807, 52 and 157, 37 and
117. Not measured on a TPU.
"""


def tile_size(total: int, tile: int) -> int:
    """Return how many queries, or keys, to take at a time."""
    return max(1, min(tile, total))


def to_tiles(x: jax.Array, kv_heads: int, tile: int) -> jax.Array:
    """Cut ``(total, heads, dim)`` into ``(tiles, kv_heads, group * tile, dim)``, with zeros behind the last.

    The queries of all heads that share keys lie below each other, for one product with these keys.
    """
    total, heads, dim = x.shape
    tile = tile_size(total, tile)
    tiles, group = max(1, -(-total // tile)), heads // kv_heads
    x = jnp.pad(x, ((0, tiles * tile - total), (0, 0), (0, 0)))
    x = x.reshape(tiles, tile, kv_heads, group, dim).transpose(0, 2, 3, 1, 4)
    return x.reshape(tiles, kv_heads, group * tile, dim)


def from_tiles(tiles: jax.Array, total: int, heads: int) -> jax.Array:
    """Undo ``to_tiles``."""
    count, kv_heads, rows, dim = tiles.shape
    group = heads // kv_heads
    x = tiles.reshape(count, kv_heads, group, rows // group, dim).transpose(0, 3, 1, 2, 4)
    return x.reshape(-1, heads, dim)[:total]


def block_range(
    k_lo: jax.Array, k_hi: jax.Array, tile: int, block: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return each tile's key ranges ``(tiles, tile)``, twice, and its half-open range of blocks, ``(tiles,)``."""
    tile = tile_size(k_lo.shape[0], tile)
    missing = max(1, -(-k_lo.shape[0] // tile)) * tile - k_lo.shape[0]
    lo, hi = (jnp.pad(x, (0, missing)).reshape(-1, tile) for x in (k_lo, k_hi))
    sees = lo < hi
    first = jnp.where(sees, lo, jnp.iinfo(lo.dtype).max).min(axis=1) // block
    stop = -(-jnp.where(sees, hi, 0).max(axis=1) // block)
    return lo, hi, first, stop


def visible(lo: jax.Array, hi: jax.Array, j: jax.Array, block: int, group: int) -> jax.Array:
    """Return which keys of block ``j`` each query of a tile sees, ``(group * tile, block)``."""
    key = j * block + jnp.arange(block, dtype=lo.dtype)
    return jnp.tile((key >= lo[:, None]) & (key < hi[:, None]), (group, 1))
