"""Rotary position embedding: core's formula, compiled whole for a shape."""

from __future__ import annotations

from functools import partial

import jax

from scree_core import reference
from scree_jax import namespace


@partial(jax.jit, static_argnames="interleaved")
def rope(x: jax.Array, cos: jax.Array, sin: jax.Array, positions: jax.Array, *, interleaved: bool) -> jax.Array:
    """Rotate pairs of the last axis by the angle of each element's position; NaN for one beyond the tables."""
    return reference.varlen_rope(namespace, x, cos, sin, positions, interleaved=interleaved)
