"""The kernels of attention as jax-triton calls them: arrays that are read, then numbers, then arrays that are written.

Each hands its arguments on. JAX arrays lie one element after the other, so strides are products of constants. What is
absent can't be None among arrays that are read, which are counted, so a constant says whether it is there; anything
may stand in its place. Of what is written, only the last can be absent, and is None.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scree_triton.attention.kernels.forward import forward_kernel
from scree_triton.attention.kernels.keys import keys_kernel
from scree_triton.attention.kernels.queries import queries_kernel
from scree_triton.attention.kernels.tiles import tiles_kernel


@triton.jit
def _map(TILES):
    """Return the map of tiles, which JAX holds as halves of its numbers: it has 64 bits only where asked for."""
    return TILES.to(tl.pointer_type(tl.int64), bitcast=True)


@triton.jit
def tiles(
    OFFSETS, OTHERS, BEFORE, batch, capacity, TILES, BLOCK: tl.constexpr, ROWS: tl.constexpr, SORTED: tl.constexpr
):  # fmt: skip
    """Write the map of tiles."""
    tiles_kernel(OFFSETS, OTHERS, BEFORE, _map(TILES), batch, capacity, BLOCK, ROWS, SORTED)


@triton.jit
def forward(
    Q, K, V, SINKS, Q_OFFSETS, K_OFFSETS, TILES, total, factor, softcap, left, right, OUT, STATS, LSE,
    HAS_SINKS: tl.constexpr, HEADS: tl.constexpr,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, SIGN: tl.constexpr,
    SOFTCAP: tl.constexpr, EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Write output, what backward needs of the denominators, and the lse."""
    forward_kernel(
        Q, K, V, OUT, LSE, STATS, SINKS if HAS_SINKS else None, Q_OFFSETS, K_OFFSETS, _map(TILES),
        HEADS * D, D, 1, HEADS // GROUP * D, D, 1, HEADS // GROUP * DV, DV, 1, total, HEADS, factor, softcap, left,
        right, GROUP, D, DV, BLOCK_D, BLOCK_DV, BLOCK_M, BLOCK_N, LEFT, RIGHT, SIGN, SOFTCAP, EXACT, UPCAST, PRECISION,
        SUMS,
    )  # fmt: skip


@triton.jit
def queries(
    Q, K, V, OUT, D_OUT, D_LSE, LSE, STATS, SINKS, Q_OFFSETS, K_OFFSETS, TILES, total, scale, factor, softcap, left,
    right, DELTA, D_Q, D_SINKS,
    HAS_SINKS: tl.constexpr, HAS_D_LSE: tl.constexpr, HEADS: tl.constexpr,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, SIGN: tl.constexpr,
    SOFTCAP: tl.constexpr, EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the mean of dP, dq, and each query's share of the sinks' gradient."""
    queries_kernel(
        Q, K, V, OUT, D_OUT, D_LSE if HAS_D_LSE else None, LSE if HAS_D_LSE else None, STATS,
        SINKS if HAS_SINKS else None, DELTA, D_SINKS, D_Q, Q_OFFSETS, K_OFFSETS, _map(TILES),
        HEADS, 1, HEADS * D, D, 1, HEADS // GROUP * D, D, 1, HEADS // GROUP * DV, DV, 1, HEADS * DV, DV, 1,
        total, HEADS, scale, factor, softcap, left, right,
        GROUP, D, DV, BLOCK_D, BLOCK_DV, BLOCK_M, BLOCK_N, LEFT, RIGHT, SIGN, SOFTCAP, EXACT, UPCAST, PRECISION,
    )  # fmt: skip


@triton.jit
def keys(
    Q, K, V, D_OUT, STATS, DELTA, Q_OFFSETS, K_OFFSETS, TILES, total, scale, factor, softcap, left, right, D_K, D_V,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, SIGN: tl.constexpr,
    SOFTCAP: tl.constexpr, EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dk and dv."""
    keys_kernel(
        Q, K, V, D_OUT, STATS, DELTA, D_K, D_V, Q_OFFSETS, K_OFFSETS, _map(TILES),
        HEADS * D, D, 1, HEADS // GROUP * D, D, 1, HEADS // GROUP * DV, DV, 1, HEADS * DV, DV, 1,
        total, HEADS, scale, factor, softcap, left, right,
        GROUP, D, DV, BLOCK_D, BLOCK_DV, BLOCK_M, BLOCK_N, LEFT, RIGHT, SIGN, SOFTCAP, EXACT, UPCAST, PRECISION,
    )  # fmt: skip
