"""Arrays that go together inside ``jax.shard_map``.

There a type says over which axes of the mesh a value varies; loops, solvers and gradients of one's own refuse what
starts out the same on every device and comes back varying. The functions that cast between the two have changed
names with most releases of JAX. Choosing between a value and another's sum, always for the first, does the same,
and costs nothing once compiled.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def varying_like(x: jax.Array, *others: jax.Array) -> jax.Array:
    """Return ``x``, varying over every mesh axis that one of the others varies over too."""
    if not jax.sharding.get_abstract_mesh().manual_axes:  # outside of shard_map
        return x
    for other in others:
        x = jnp.where(True, x, other.sum().astype(x.dtype))
    return x


def zeros_beside(shape: tuple[int, ...], dtype: Any, *arrays: jax.Array) -> jax.Array:
    """Return zeros that vary over every mesh axis that one of the arrays varies over."""
    return varying_like(jnp.zeros(shape, dtype), *arrays)
