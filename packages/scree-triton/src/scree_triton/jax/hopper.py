"""Which calls go to the kernel for Hopper, and how it is launched."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import triton

from scree_triton.attention.hopper.rule import (
    BLOCK_M,
    BLOCK_N,
    FAR,
    HEAD_DIM,
    NUM_WARPS,
    REGISTERS,
    STAGES,
    VERSIONS,
    computes,
    is_worth,
)
from scree_triton.jax import gluon_call, library
from scree_triton.jax.given import Found, Inputs, Options
from scree_triton.jax.library import memory
from scree_triton.jax.tiles import tiles_of


def takes(inputs: Inputs, options: Options) -> bool:
    """Tell whether a call goes to the kernel for Hopper, not to ``launches.forward``: see ``attention.hopper.rule``."""
    q, k, v = inputs[:3]
    causal, scale, window, softcap = options[:4]
    dims, batch = (q.shape[2], v.shape[2]), inputs.q_offsets.shape[0] - 1
    return (
        library.capability() == 90
        and triton.__version__.startswith(VERSIONS)
        and computes(q.dtype.itemsize, dims, causal=causal, scale=scale, window=window, softcap=softcap)
        and max(q.shape[0], k.shape[0]) <= FAR
        and is_worth(q.shape[0], k.shape[0], q.shape[1], batch)
    )


def forward(inputs: Inputs, options: Options) -> Found:
    """Compute attention as ``launches.forward`` does: a map of tiles, and one launch."""
    from scree_triton.jax.kernels.hopper import SCRATCH, hopper

    q, k, v, sinks, q_offsets, k_offsets = inputs
    total, heads, _ = q.shape
    tiles, count = tiles_of(q_offsets, k_offsets, total, BLOCK_M)
    told: dict[str, Any] = {
        "HAS_SINKS": sinks is not None,
        "HEADS": heads,
        "GROUP": heads // k.shape[1],
        "RIGHT": options.causal,
    }
    tile = {"BLOCK_M": BLOCK_M, "BLOCK_N": BLOCK_N, "D": HEAD_DIM, "STAGES": STAGES}
    out = [memory(q.shape, q.dtype), memory((1, heads, total)), memory((1,), jnp.int32)]
    if options.return_lse:
        out.append(memory((heads, total)))
    else:
        told["LSE"] = None
    kernel = gluon_call.Kernel(hopper, NUM_WARPS, REGISTERS, SCRATCH, tuple((told | tile).items()))
    arrays = q, k, v, q_offsets if sinks is None else sinks, q_offsets, k_offsets, tiles
    programs = count * heads
    written = gluon_call.call(
        kernel,
        min(programs, library.multiprocessors()),
        *arrays,
        total,
        programs,
        np.float32(options.scale * math.log2(math.e)),
        out=out,
        # Programs count the tiles that they take; elements behind the last row are nobody's.
        zeroed=(2, *(0,) * options.tails[0], *(3,) * (options.tails[0] and options.return_lse)),
    )
    return Found(written[0], written[3].T if options.return_lse else None, written[1])
