"""The backward kernel of the keys: dk and dv by tiles of keys.

No program adds to what another one writes, so gradients are the same in every run, and dk and dv of grouped heads
are added up in registers. The price is that this kernel and that of the queries both compute the scores: 7 products
instead of 5.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scree_triton.attention.kernels.scores import blocks_of_queries, load_tile, signed, weights
from scree_triton.attention.kernels.tiles import lengths_of, place_in, row_of


@triton.jit
def _keys_step(dk, dv, k, v, Q, OUT, D_OUT, STATS, DELTA, m, plane, key, lq, shift, left, right, stride_qt, stride_qd,
               stride_dt, stride_dd, stride_ot, factor, softcap, BLOCK_M: tl.constexpr, D: tl.constexpr,
               DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, LEFT: tl.constexpr,
               RIGHT: tl.constexpr, SIGN: tl.constexpr, SOFTCAP: tl.constexpr, EXACT: tl.constexpr,
               UPCAST: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Add what one block of queries has to dk and dv. Scores lie with their keys first: nothing is transposed.

    Queries behind the last are zeros with a gradient of zeros, so that their weights don't matter.
    """
    q = load_tile(Q, m, lq, tl.arange(0, BLOCK_D), stride_qt, stride_qd, True, D, BLOCK_M, BLOCK_D, UPCAST)
    g = load_tile(D_OUT, m, lq, tl.arange(0, BLOCK_DV), stride_dt, stride_dd, True, DV, BLOCK_M, BLOCK_DV, UPCAST)
    q = signed(q, SIGN)
    query = m + tl.arange(0, BLOCK_M)
    real = query < lq
    top = tl.load(STATS + query, mask=real, other=0.0)
    if DELTA is None:
        out = load_tile(OUT, m, lq, tl.arange(0, BLOCK_DV), stride_ot, 1, True, DV, BLOCK_M, BLOCK_DV, UPCAST)
        delta = tl.sum(out.to(tl.float32) * g.to(tl.float32), 1)
    else:
        delta = tl.load(DELTA + query, mask=real, other=0.0)
    shrink = tl.load(STATS + plane + query, mask=real, other=0.0) if EXACT else delta
    s = tl.dot(k, tl.trans(q), input_precision=PRECISION)
    p, slope = weights(s, top[None, :], shrink[None, :], factor, softcap, SOFTCAP, EXACT)
    if RIGHT:
        p = tl.where(key[:, None] <= (query + (shift + right))[None, :], p, 0.0)
    if LEFT:
        p = tl.where(key[:, None] >= (query + (shift - left))[None, :], p, 0.0)
    dv = tl.dot(p.to(g.dtype), g, dv, input_precision=PRECISION)
    dp = tl.dot(v, tl.trans(g), input_precision=PRECISION)
    ds = p * (dp - delta[None, :]) * slope
    dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    return dk, dv


@triton.jit
def keys_tile(
    tile, program,
    Q, K, V, OUT, D_OUT, STATS, DELTA, D_K, D_V, Q_OFFSETS, K_OFFSETS,
    stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh, stride_vd,
    stride_dt, stride_dh, stride_dd,
    total, heads, scale, factor, softcap, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, SIGN: tl.constexpr,
    SOFTCAP: tl.constexpr, EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dk and dv for one tile of keys and one of their heads, over all query heads of its group.

    Without DELTA, the mean of dP is computed here, of the output.
    """
    row, j = row_of(tile), place_in(tile)
    q_start, k_start, lq, lk = lengths_of(row, Q_OFFSETS, K_OFFSETS)
    kv_heads = heads // GROUP
    count = (lk + BLOCK_N - 1) // BLOCK_N
    place = program - (program // kv_heads - j) * kv_heads
    kv_head = place // count
    first = (place % count) * BLOCK_N  # from the first, which a causal row has most work for
    shift = lk - lq

    feature, feature_v = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    K += k_start * stride_kt + kv_head.to(tl.int64) * stride_kh
    V += k_start * stride_vt + kv_head.to(tl.int64) * stride_vh
    k = load_tile(K, first, lk, feature, stride_kt, stride_kd, True, D, BLOCK_N, BLOCK_D, UPCAST)
    v = load_tile(V, first, lk, feature_v, stride_vt, stride_vd, True, DV, BLOCK_N, BLOCK_DV, UPCAST)
    key = first + tl.arange(0, BLOCK_N)
    last = tl.minimum(first + BLOCK_N, lk) - 1
    start, stop = blocks_of_queries(first, last, lq, lk, left, right, BLOCK_M, LEFT, RIGHT)
    plane = tl.cast(total, tl.int64) * heads
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_DV], tl.float32)
    for member in range(GROUP):
        head = (kv_head * GROUP + member).to(tl.int64)
        Q_AT = Q + q_start * stride_qt + head * stride_qh
        D_AT = D_OUT + q_start * stride_dt + head * stride_dh
        O_AT = OUT if OUT is None else OUT + (q_start * heads + head) * DV
        STATS_AT = STATS + head * total + q_start
        DELTA_AT = DELTA if DELTA is None else DELTA + head * total + q_start
        # One loop that always masks: three take more registers than they save in comparisons.
        for m in tl.range(start, stop, BLOCK_M):
            dk, dv = _keys_step(
                dk, dv, k, v, Q_AT, O_AT, D_AT, STATS_AT, DELTA_AT, m, plane, key, lq, shift, left, right, stride_qt,
                stride_qd, stride_dt, stride_dd, heads * DV, factor, softcap, BLOCK_M, D, DV, BLOCK_D, BLOCK_DV, LEFT,
                RIGHT, SIGN, SOFTCAP, EXACT, UPCAST, PRECISION,
            )  # fmt: skip
    inside = (key < lk)[:, None]
    at = ((k_start + key).to(tl.int64) * kv_heads + kv_head)[:, None]
    dk = (dk * scale).to(D_K.dtype.element_ty)
    tl.store(D_K + at * D + feature[None, :], dk, mask=inside & (feature < D)[None, :])
    dv = dv.to(D_V.dtype.element_ty)
    tl.store(D_V + at * DV + feature_v[None, :], dv, mask=inside & (feature_v < DV)[None, :])


@triton.jit(
    do_not_specialize=["total", "heads", "left", "right"],
    do_not_specialize_on_alignment=["Q_OFFSETS", "K_OFFSETS", "STATS", "DELTA"],
)
def keys_kernel(
    Q, K, V, D_OUT, STATS, DELTA, D_K, D_V, Q_OFFSETS, K_OFFSETS, TILES,
    stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh, stride_vd,
    stride_dt, stride_dh, stride_dd,
    total, heads, scale, factor, softcap, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, SIGN: tl.constexpr,
    SOFTCAP: tl.constexpr, EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Do what ``keys_tile`` says for the tile of each program."""
    program = tl.program_id(0)
    tile = tl.load(TILES + program // (heads // GROUP))
    if tile < 0:
        return
    keys_tile(
        tile, program, Q, K, V, None, D_OUT, STATS, DELTA, D_K, D_V, Q_OFFSETS, K_OFFSETS,
        stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh, stride_vd,
        stride_dt, stride_dh, stride_dd, total, heads, scale, factor, softcap, left, right,
        GROUP, D, DV, BLOCK_D, BLOCK_DV, BLOCK_M, BLOCK_N, LEFT, RIGHT, SIGN, SOFTCAP, EXACT, UPCAST, PRECISION,
    )  # fmt: skip
