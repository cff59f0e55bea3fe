"""Sums and maxima over the elements of each row, and the way back: by row numbers, for any offsets.

Row numbers never decrease, and an element of the number ``batch`` belongs to no row.
"""

from __future__ import annotations

from math import isqrt

import jax
import jax.numpy as jnp

from scree_jax.geometry import segment_ids as row_numbers

STRETCH = 64
"""How many elements are added up one after the other at least, before their sum is added to that of others."""


def add_rows(x: jax.Array, segment_ids: jax.Array, offsets: jax.Array) -> jax.Array:
    """Sum the elements of each row, ``(total, *features)`` to ``(batch, *features)``, in the dtype of x.

    First each row's part of every stretch of about sqrt(total) elements, then these: a row of a million numbers
    0.1 in float32 would else come out 1 % too large.
    """
    batch, total = offsets.shape[0] - 1, x.shape[0]
    length = max(STRETCH, isqrt(total))
    if total <= length:
        return add_by_number(x, segment_ids, batch)
    # Row number and stretch together never decrease, and each step of either begins another part.
    stretch = jnp.arange(total, dtype=offsets.dtype) // length
    parts = add_by_number(x, segment_ids + stretch, batch + (total - 1) // length + 1)
    first_parts = jnp.arange(batch + 1, dtype=offsets.dtype) + offsets // length
    return add_by_number(parts, row_numbers(first_parts, parts.shape[0]), batch)


def add_by_number(x: jax.Array, numbers: jax.Array, count: int) -> jax.Array:
    """Sum the elements of each number below ``count``, one after the other; the numbers never decrease."""
    if count == 0:  # the gradient of a scatter is a gather, which needs something to take from
        return jnp.zeros((0, *x.shape[1:]), x.dtype)
    return jax.ops.segment_sum(x, numbers, count, indices_are_sorted=True)


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
