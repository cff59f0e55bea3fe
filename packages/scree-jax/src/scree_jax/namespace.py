"""JAX's functions under the array API names: those of ``jax.numpy``, but for two defaults of theirs."""

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
    zeros_like,
)

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
    """Return the matrix product, in the precision of its dtype.

    JAX by itself multiplies float32 in TF32 on a GPU and in bfloat16 on a TPU, a thousand times coarser.
    Who has set ``jax_default_matmul_precision`` is obeyed.
    """
    chosen = jax.config.jax_default_matmul_precision  # pyrefly: ignore[missing-attribute]
    return jnp.matmul(x1, x2, precision="highest" if chosen is None else None)
