"""Both backward kernels in one launch, for calls so small that one of them leaves much of the GPU idle.

The programs of the keys, which have the most to do, come first. None waits for another: those of the keys compute
the mean of each query's ``dP`` by themselves.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scree_triton.attention.kernels.keys import keys_tile
from scree_triton.attention.kernels.queries import queries_tile


@triton.jit(
    do_not_specialize=["total", "heads", "left", "right", "key_programs"],
    do_not_specialize_on_alignment=["Q_OFFSETS", "K_OFFSETS", "SINKS"],
)
def both_kernel(
    Q, K, V, OUT, D_OUT, STATS, SINKS, D_SINKS, D_Q, D_K, D_V, Q_OFFSETS, K_OFFSETS, QUERY_TILES, KEY_TILES,
    stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh, stride_vd,
    stride_dt, stride_dh, stride_dd,
    total, heads, scale, factor, softcap, left, right, key_programs,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    QUERIES_M: tl.constexpr, QUERIES_N: tl.constexpr, KEYS_M: tl.constexpr, KEYS_N: tl.constexpr,
    LEFT: tl.constexpr, RIGHT: tl.constexpr, SIGN: tl.constexpr, SOFTCAP: tl.constexpr, EXACT: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Do what ``keys_tile`` and ``queries_tile`` say; see there."""
    program = tl.program_id(0)
    if program < key_programs:
        tile = tl.load(KEY_TILES + program // (heads // GROUP))
        if tile >= 0:
            keys_tile(
                tile, program, Q, K, V, OUT, D_OUT, STATS, None, D_K, D_V, Q_OFFSETS, K_OFFSETS,
                stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh, stride_vd,
                stride_dt, stride_dh, stride_dd, total, heads, scale, factor, softcap, left, right,
                GROUP, D, DV, BLOCK_D, BLOCK_DV, KEYS_M, KEYS_N, LEFT, RIGHT, SIGN, SOFTCAP, EXACT, UPCAST, PRECISION,
            )  # fmt: skip
    else:
        program -= key_programs
        tile = tl.load(QUERY_TILES + program // heads)
        if tile >= 0:
            queries_tile(
                tile, program, Q, K, V, OUT, D_OUT, None, None, STATS, SINKS, None, D_SINKS, D_Q, Q_OFFSETS, K_OFFSETS,
                0, 0, stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh,
                stride_vd, stride_dt, stride_dh, stride_dd, total, heads, scale, factor, softcap, left, right,
                GROUP, D, DV, BLOCK_D, BLOCK_DV, QUERIES_M, QUERIES_N, LEFT, RIGHT, SIGN, SOFTCAP, EXACT, UPCAST,
                PRECISION,
            )  # fmt: skip
