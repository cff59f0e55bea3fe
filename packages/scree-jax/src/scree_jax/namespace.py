"""JAX's functions under the array API names: those of ``jax.numpy``, but for some defaults of theirs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.numpy import (
    astype,
    bool,
    broadcast_to,
    concat,
    cumulative_sum,
    exp,
    float32,
    full,
    full_like,
    int32,
    int64,
    log,
    max,
    maximum,
    min,
    moveaxis,
    permute_dims,
    reshape,
    searchsorted,
    sqrt,
    stack,
    sum,
    take,
    tanh,
    where,
)

from scree_jax.precision import matmul_precision

__all__ = [
    "arange",
    "astype",
    "bool",
    "broadcast_to",
    "concat",
    "cumulative_sum",
    "exp",
    "float32",
    "full",
    "full_like",
    "int32",
    "int64",
    "log",
    "matmul",
    "max",
    "maximum",
    "min",
    "moveaxis",
    "permute_dims",
    "reshape",
    "searchsorted",
    "sqrt",
    "stack",
    "sum",
    "take",
    "tanh",
    "where",
    "zeros_like",
]


def arange(stop: int, *, dtype: Any, device: Any = None) -> jax.Array:
    """Return ``0, 1, ..., stop - 1``, uncommitted to a device: it follows what it is combined with.

    ``device`` is that of an array of another shape, whose sharding may not fit this one.
    """
    return jnp.arange(stop, dtype=dtype)


def matmul(x1: jax.Array, x2: jax.Array) -> jax.Array:
    """Return the matrix product, in the precision of its dtype: see ``matmul_precision``."""
    return jnp.matmul(x1, x2, precision=matmul_precision())


@jax.jit
def zeros_like(x: jax.Array) -> jax.Array:
    """Return zeros in the shape and dtype of x; jitted, for by itself it moves a 0 to the device each time."""
    return jnp.zeros_like(x)
