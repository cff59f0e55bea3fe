"""Sums and maxima over the elements of each row, and the way back: by row numbers, for any offsets.

Row numbers never decrease, and an element of the number ``batch`` belongs to no row.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def add_rows(x: jax.Array, segment_ids: jax.Array, batch: int) -> jax.Array:
    """Sum the elements of each row, ``(total, *features)`` to ``(batch, *features)``, in the dtype of x."""
    if batch == 0:  # the gradient of a scatter is a gather, which needs something to take from
        return jnp.zeros((0, *x.shape[1:]), x.dtype)
    return jax.ops.segment_sum(x, segment_ids, batch, indices_are_sorted=True)


def spread(per_row: jax.Array, segment_ids: jax.Array, fill: float = 0) -> jax.Array:
    """Give each element the entry of its row, ``(batch, *features)`` to ``(total, *features)``.

    Elements of no row get ``fill``. The gradient adds up each row's elements, in the dtype of ``per_row``.
    """
    if per_row.shape[0] == 0:  # a gather needs something to take from
        return jnp.full((segment_ids.shape[0], *per_row.shape[1:]), fill, per_row.dtype)
    return per_row.at[segment_ids].get(mode="fill", fill_value=fill, indices_are_sorted=True)


def column(per_row: jax.Array, like: jax.Array) -> jax.Array:
    """Return one number for each row, ``(batch,)``, with axes to broadcast against ``(batch, *features)``."""
    return per_row.reshape(per_row.shape[0], *(1,) * (like.ndim - 1))
