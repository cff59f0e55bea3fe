"""From arrays to calls of kernels: the map of tiles, forward, and the two of backward."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scree_triton.attention.configs import Setting, default
from scree_triton.attention.told import MANY, bound, constants, numbers, planes, typical_length
from scree_triton.jax import library
from scree_triton.jax.library import Kernel, call
from scree_triton.power_of_2 import power_of_2

UPCAST = False
"""Whether bfloat16 is computed in float32, as Triton's interpreter has to."""


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


def forward(inputs: Inputs, options: Options) -> Found:
    """Compute attention: a map of tiles, and one launch."""
    q, k, v, sinks, q_offsets, k_offsets = inputs
    (total, heads, _), dim_v = q.shape, v.shape[2]
    kernel, tile = _kernel("forward", inputs, options, HAS_SINKS=sinks is not None)
    tiles, count = _tiles(q_offsets, k_offsets, total, tile.block_m)
    out = [_like((total, heads, dim_v), q.dtype), _like((planes(q.dtype.itemsize), heads, total))]
    if options.return_lse:
        out.append(_like((heads, total)))
    else:
        kernel.constants["LSE"] = None
    arrays = q, k, v, q_offsets if sinks is None else sinks, q_offsets, k_offsets, tiles
    zeroed = (0,) * options.tails[0] + (2,) * (options.tails[0] and options.return_lse)
    written = call(kernel, count * heads, *arrays, total, *_numbers(options), out=out, zeroed=zeroed)
    return Found(written[0], written[2].T if options.return_lse else None, written[1])


def backward(
    inputs: Inputs, found: Found, d_out: jax.Array, d_lse: jax.Array | None, options: Options
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Compute the gradients of q, k, v and the sinks: two maps of tiles, two launches, and a sum with sinks.

    Parameters
    ----------
    inputs, options
        As given to ``forward``.
    found : Found
        What it returned.
    d_out, d_lse : jax.Array
        Cotangents of the output, and of the lse if there is one.
    """
    q, k, v, sinks, q_offsets, k_offsets = inputs
    (total, heads, _), kv_heads = q.shape, k.shape[1]
    offsets, scalars = (q_offsets, k_offsets), (total, np.float32(abs(options.scale)), *_numbers(options))

    has = {"HAS_SINKS": sinks is not None, "HAS_D_LSE": d_lse is not None}
    kernel, tile = _kernel("queries", inputs, options, **has)
    tiles, count = _tiles(q_offsets, k_offsets, total, tile.block_m)
    out = [_like((heads, total)), _like(q.shape, q.dtype)]
    if sinks is None:
        kernel.constants["D_SINKS"] = None
    else:
        out.append(_like((heads, total)))
    lse = None if found.lse is None else found.lse.T
    # Absent arrays leave their place to any other.
    arrays = (x if x is not None else q_offsets for x in (d_lse, lse, found.stats, sinks))
    # Elements behind the last row are nobody's, and the sum of the sinks' shares goes over all.
    zeroed = (1,) * options.tails[0] + (2,) * (sinks is not None)
    delta, d_q, *shares = call(
        kernel, count * heads, q, k, v, found.out, d_out, *arrays, *offsets, tiles, *scalars, out=out, zeroed=zeroed
    )
    kernel, tile = _kernel("keys", inputs, options)
    tiles, count = _tiles(k_offsets, q_offsets, k.shape[0], tile.block_n)
    arrays = q, k, v, d_out, found.stats, delta, *offsets, tiles
    out, zeroed = [_like(x.shape, x.dtype) for x in (k, v)], (0, 1) if options.tails[1] else ()
    d_k, d_v = call(kernel, count * kv_heads, *arrays, *scalars, out=out, zeroed=zeroed)
    return d_q, d_k, d_v, None if sinks is None else shares[0].sum(1).astype(sinks.dtype)


def _like(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _numbers(options: Options) -> tuple[np.float32, np.float32, int, int]:
    """Return factor, cap and window, which core has made no wider than there are elements."""
    causal, scale, window, softcap = options[:4]
    factor, cap, left, right = numbers(causal=causal, scale=scale, window=window, softcap=softcap)
    return np.float32(factor), np.float32(cap), left, right


def _kernel(kind: str, inputs: Inputs, options: Options, **more: Any) -> tuple[Kernel, Any]:
    """Return a kernel with its constants, and the tile that it is compiled for."""
    from scree_triton.jax import kernels

    q, k, v = inputs[:3]
    causal, scale, window, softcap = options[:4]
    heads, dims, itemsize = (q.shape[1], k.shape[1]), (q.shape[2], v.shape[2]), q.dtype.itemsize
    length = typical_length(k.shape[0], inputs.k_offsets.shape[0] - 1)
    setting = Setting(kind, power_of_2(max(dims)), itemsize, causal)
    tile = default(setting, length, f"sm_{library.capability()}")
    exact, upcast = itemsize == 4, UPCAST and q.dtype == jnp.bfloat16
    told = constants(
        heads, dims, causal=causal, scale=scale, window=window, softcap=softcap, exact=exact, upcast=upcast
    )
    blocks = {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "HEADS": heads[0]}
    return Kernel(getattr(kernels, kind), tile.num_warps, tile.num_stages, told | blocks | more), tile


def _tiles(offsets: jax.Array, others: jax.Array, total: int, block: int) -> tuple[jax.Array, int]:
    """Return the map of tiles, and how many it has room for.

    The bounds that layouts know of their longest row aren't used: programs would be compiled anew for each.
    """
    from scree_triton.jax import kernels

    batch = offsets.shape[0] - 1
    count, is_sorted = bound(batch, total, None, block), batch > MANY
    before = _before(offsets, others, block) if is_sorted else offsets
    kernel = Kernel(kernels.tiles, 4, 1, {"BLOCK": block, "ROWS": min(1024, power_of_2(batch)), "SORTED": is_sorted})
    (tiles,) = call(kernel, batch, offsets, others, before, batch, count, out=[_like((2 * count,), jnp.int32)])
    return tiles, count


def _before(offsets: jax.Array, others: jax.Array, block: int) -> jax.Array:
    """Return how many tiles lie before those of each row, and how many there are, ``(batch + 1,)``."""
    order = jnp.argsort(jnp.diff(others), descending=True, stable=True)
    counts = ((jnp.diff(offsets) + block - 1) // block)[order]
    behind = jnp.cumsum(counts)
    before = jnp.zeros_like(behind).at[order].set(behind - counts)
    return jnp.concatenate([before, behind[-1:]])
