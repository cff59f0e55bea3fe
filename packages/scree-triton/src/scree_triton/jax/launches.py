"""From arrays to calls of kernels: forward, and the two of backward."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scree_triton.attention.configs import Setting, default
from scree_triton.attention.told import constants, numbers, planes, sums, typical_length
from scree_triton.jax import library
from scree_triton.jax.given import Found, Inputs, Options
from scree_triton.jax.library import Kernel, memory
from scree_triton.jax.tiles import tiles_of
from scree_triton.power_of_2 import power_of_2

UPCAST = False
"""Whether bfloat16 is computed in float32, as Triton's interpreter has to."""


def forward(inputs: Inputs, options: Options) -> Found:
    """Compute attention: a map of tiles, and one launch."""
    q, k, v, sinks, q_offsets, k_offsets = inputs
    (total, heads, _), dim_v = q.shape, v.shape[2]
    kernel, tile = _kernel("forward", inputs, options, HAS_SINKS=sinks is not None)
    tiles, count = tiles_of(q_offsets, k_offsets, total, tile.block_m)
    out = [memory((total, heads, dim_v), q.dtype), memory((planes(q.dtype.itemsize), heads, total))]
    if options.return_lse:
        out.append(memory((heads, total)))
    else:
        kernel.constants["LSE"] = None
    arrays = q, k, v, q_offsets if sinks is None else sinks, q_offsets, k_offsets, tiles
    zeroed = (0,) * options.tails[0] + (2,) * (options.tails[0] and options.return_lse)
    written = library.call(kernel, count * heads, *arrays, total, *_numbers(options), out=out, zeroed=zeroed)
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
    tiles, count = tiles_of(q_offsets, k_offsets, total, tile.block_m)
    out = [memory((heads, total)), memory(q.shape, q.dtype)]
    if sinks is None:
        kernel.constants["D_SINKS"] = None
    else:
        out.append(memory((heads, total)))
    lse = None if found.lse is None else found.lse.T
    # Absent arrays leave their place to any other.
    arrays = (x if x is not None else q_offsets for x in (d_lse, lse, found.stats, sinks))
    # Elements behind the last row are nobody's, and the sum of the sinks' shares goes over all.
    zeroed = (1,) * options.tails[0] + (2,) * (sinks is not None)
    delta, d_q, *shares = library.call(
        kernel, count * heads, q, k, v, found.out, d_out, *arrays, *offsets, tiles, *scalars, out=out, zeroed=zeroed
    )
    kernel, tile = _kernel("keys", inputs, options)
    tiles, count = tiles_of(k_offsets, q_offsets, k.shape[0], tile.block_n)
    arrays = q, k, v, d_out, found.stats, delta, *offsets, tiles
    out, zeroed = [memory(x.shape, x.dtype) for x in (k, v)], (0, 1) if options.tails[1] else ()
    d_k, d_v = library.call(kernel, count * kv_heads, *arrays, *scalars, out=out, zeroed=zeroed)
    return d_q, d_k, d_v, None if sinks is None else shares[0].sum(1).astype(sinks.dtype)


def _numbers(options: Options) -> tuple[np.float32, np.float32, int, int]:
    """Return factor, cap and window, which core has made no wider than there are elements."""
    causal, scale, window, softcap = options[:4]
    factor, cap, left, right = numbers(causal=causal, scale=scale, window=window, softcap=softcap)
    return np.float32(factor), np.float32(cap), left, right


def _kernel(kind: str, inputs: Inputs, options: Options, **more: Any) -> tuple[Kernel, Any]:
    """Return a kernel with its constants, and the tile that it is compiled for."""
    from scree_triton.jax.kernels import plain

    q, k, v = inputs[:3]
    causal, scale, window, softcap = options[:4]
    heads, dims, itemsize = (q.shape[1], k.shape[1]), (q.shape[2], v.shape[2]), q.dtype.itemsize
    length = typical_length(k.shape[0], inputs.k_offsets.shape[0] - 1)
    setting = Setting(kind, power_of_2(max(dims)), itemsize, causal)
    architecture = f"sm_{library.capability()}"
    tile = default(setting, length, architecture)  # its registers are no option of jax-triton's
    exact, upcast = itemsize == 4, UPCAST and q.dtype == jnp.bfloat16
    told = constants(
        heads, dims, causal=causal, scale=scale, window=window, softcap=softcap, exact=exact, upcast=upcast
    )
    blocks = {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "HEADS": heads[0]}
    if kind == "forward":
        blocks["SUMS"] = sums(architecture, itemsize)
    return Kernel(getattr(plain, kind), tile.num_warps, tile.num_stages, told | blocks | more), tile
