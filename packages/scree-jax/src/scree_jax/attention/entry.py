"""From a checked call to one of the ways to compute attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from scree_core.layout import Layout
from scree_core.registry import backend_of
from scree_jax.attention.options import Options
from scree_jax.attention.places import Places
from scree_jax.attention.sinks import with_sinks
from scree_jax.attention.tiles import LARGE, TILE
from scree_jax.geometry import key_ranges
from scree_jax.platform import platform_of
from scree_jax.precision import narrowed, widened
from scree_jax.varying import varying_like

Way = Callable[..., tuple[jax.Array, jax.Array]]
"""``blocked`` or ``dense``: q, k, v, places and options to the output and the lse."""


def attend(
    way: Way,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    q_layout: Layout[jax.Array],
    k_layout: Layout[jax.Array],
    *,
    sinks: jax.Array | None,
    return_lse: bool,
    **options: Any,
) -> tuple[jax.Array, jax.Array | None]:
    """Run one way as ``Backend.varlen_attention`` describes it."""
    backend = backend_of(q)
    ids = backend.segment_ids(q_layout, q.shape[0]), backend.segment_ids(k_layout, k.shape[0])
    wide = (widened(x) for x in (q, k, v, sinks))
    tile = TILE.get(platform_of(q), LARGE)
    out, lse = _attention(way, *wide, *ids, q_layout.offsets, k_layout.offsets, tile=tile, **options)
    return narrowed(out, q), lse if return_lse else None


@partial(jax.jit, static_argnums=0, static_argnames=("tile", "causal", "scale", "window", "softcap"))
def _attention(
    way: Way,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    sinks: jax.Array | None,
    q_ids: jax.Array,
    k_ids: jax.Array,
    q_offsets: jax.Array,
    k_offsets: jax.Array,
    *,
    tile: int,
    causal: bool,
    scale: float,
    window: tuple[int, int],
    softcap: float | None,
) -> tuple[jax.Array, jax.Array]:
    ranges = key_ranges(q_offsets, k_offsets, q_ids, causal=causal, window=window)
    together = q, k, v, q_offsets, k_offsets
    q, k, v = (varying_like(x, *together) for x in (q, k, v))
    options = Options(q_offsets.shape[0] - 1, scale, softcap, tile)
    out, lse = way(q, k, v, Places(*ranges, q_ids, k_ids), options)
    return out if sinks is None else with_sinks(out, lse, sinks), lse
