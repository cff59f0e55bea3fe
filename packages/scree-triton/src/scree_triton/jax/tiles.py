"""The map of tiles of a batch, made on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from scree_triton.attention.told import MANY, bound
from scree_triton.jax import library
from scree_triton.jax.library import Kernel, memory
from scree_triton.power_of_2 import power_of_2


def tiles_of(offsets: jax.Array, others: jax.Array, total: int, block: int) -> tuple[jax.Array, int]:
    """Return the map of tiles, and how many it has room for.

    The bounds that layouts know of their longest row aren't used: programs would be compiled anew for each.
    """
    from scree_triton.jax.kernels import plain

    batch = offsets.shape[0] - 1
    count, is_sorted = bound(batch, total, None, block), batch > MANY
    before = _before(offsets, others, block) if is_sorted else offsets
    kernel = Kernel(plain.tiles, 4, 1, {"BLOCK": block, "ROWS": min(1024, power_of_2(batch)), "SORTED": is_sorted})
    out = [memory((2 * count,), jnp.int32)]
    (tiles,) = library.call(kernel, batch, offsets, others, before, batch, count, out=out)
    return tiles, count


def _before(offsets: jax.Array, others: jax.Array, block: int) -> jax.Array:
    """Return how many tiles lie before those of each row, and how many there are, ``(batch + 1,)``."""
    order = jnp.argsort(jnp.diff(others), descending=True, stable=True)
    counts = ((jnp.diff(offsets) + block - 1) // block)[order]
    behind = jnp.cumsum(counts)
    before = jnp.zeros_like(behind).at[order].set(behind - counts)
    return jnp.concatenate([before, behind[-1:]])
