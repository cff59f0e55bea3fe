"""What a call of attention is given, and what forward makes of it."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Options(NamedTuple):
    """The static part of a call, beside the shapes of its arrays."""

    causal: bool
    scale: float
    window: tuple[int, int]
    softcap: float | None
    return_lse: bool
    tails: tuple[bool, bool]
    """Whether elements may lie behind the last row, of queries and of keys: what is written there is zeros."""


class Inputs(NamedTuple):
    """The arrays of a call."""

    q: jax.Array
    k: jax.Array
    v: jax.Array
    sinks: jax.Array | None
    q_offsets: jax.Array
    k_offsets: jax.Array


class Found(NamedTuple):
    """What forward found."""

    out: jax.Array
    """``(total_q, heads, head_dim_v)``"""
    lse: jax.Array | None
    """``(total_q, heads)`` in float32, if it was asked for."""
    stats: jax.Array
    """``(planes, heads, total_q)`` in float32, of which backward rebuilds the weights."""
