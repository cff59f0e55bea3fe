"""Normalisation of each element over its last axis: core's formulas, each compiled whole for a shape."""

from __future__ import annotations

from functools import partial

import jax

from scree_core import reference
from scree_jax import namespace


@partial(jax.jit, static_argnames="eps")
def layernorm(x: jax.Array, weight: jax.Array | None, bias: jax.Array | None, *, eps: float) -> jax.Array:
    """Normalise to mean 0 and variance 1, then scale and shift, in the dtype of x."""
    return reference.varlen_layernorm(namespace, x, weight, bias, eps=eps)


@partial(jax.jit, static_argnames="eps")
def rmsnorm(x: jax.Array, weight: jax.Array | None, *, eps: float) -> jax.Array:
    """Divide by the root mean square, then scale, in the dtype of x."""
    return reference.varlen_rmsnorm(namespace, x, weight, eps=eps)
