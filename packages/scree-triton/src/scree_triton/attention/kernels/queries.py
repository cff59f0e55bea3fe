"""The backward kernel of the queries: dq by tiles of queries.

It has the output and its gradient at hand, and leaves the mean of each query's ``dP`` for the kernel of the keys,
whatever the loss says of the lse included.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scree_triton.attention.kernels.scores import LOG2E, blocks_of_keys, key_range, load_tile, signed, weights
from scree_triton.attention.kernels.tiles import lengths_of, place_in, queries_of, row_of


@triton.jit
def _weights_of(q, g, top, shrink, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt, stride_vd,
                factor, softcap, BLOCK_N: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr,
                BLOCK_DV: tl.constexpr, MASKED: tl.constexpr, LEFT: tl.constexpr, SOFTCAP: tl.constexpr,
                EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Return one block of keys, the weights that a tile of queries gives it, dP, and the slope of the cap."""
    k = load_tile(K, n, lk, tl.arange(0, BLOCK_D), stride_kt, stride_kd, MASKED, D, BLOCK_N, BLOCK_D, UPCAST)
    v = load_tile(V, n, lk, tl.arange(0, BLOCK_DV), stride_vt, stride_vd, MASKED, DV, BLOCK_N, BLOCK_DV, UPCAST)
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    p, slope = weights(s, top[:, None], shrink[:, None], factor, softcap, SOFTCAP, EXACT)
    if MASKED:
        key = n + tl.arange(0, BLOCK_N)
        seen = key[None, :] < see_stop[:, None]
        if LEFT:
            seen = seen & (key[None, :] >= see_first[:, None])
        p = tl.where(seen, p, 0.0)
    return k, p, tl.dot(g, tl.trans(v), input_precision=PRECISION), slope


@triton.jit
def _queries_step(dq, q, g, top, shrink, delta, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt,
                  stride_vd, factor, softcap, BLOCK_N: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
                  BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, MASKED: tl.constexpr, LEFT: tl.constexpr,
                  SOFTCAP: tl.constexpr, EXACT: tl.constexpr, UPCAST: tl.constexpr,
                  PRECISION: tl.constexpr):  # fmt: skip
    """Add what one block of keys has to dq."""
    k, p, dp, slope = _weights_of(
        q, g, top, shrink, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt, stride_vd, factor,
        softcap, BLOCK_N, D, DV, BLOCK_D, BLOCK_DV, MASKED, LEFT, SOFTCAP, EXACT, UPCAST, PRECISION,
    )  # fmt: skip
    ds = p * (dp - delta[:, None]) * slope
    return tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)


@triton.jit
def queries_tile(
    tile, program,
    Q, K, V, OUT, D_OUT, D_LSE, LSE, STATS, SINKS, DELTA, D_SINKS, D_Q, Q_OFFSETS, K_OFFSETS,
    stride_lt, stride_lh, stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh,
    stride_vd, stride_dt, stride_dh, stride_dd,
    total, heads, scale, factor, softcap, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, SIGN: tl.constexpr,
    SOFTCAP: tl.constexpr, EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dq, the mean of dP, and each query's share of the sink's gradient, for a tile of queries and a head."""
    row, j = row_of(tile), place_in(tile)
    q_start, k_start, lq, lk = lengths_of(row, Q_OFFSETS, K_OFFSETS)
    first, head = queries_of(j, program, heads, lq, BLOCK_M, GROUP)
    kv_head = head // GROUP

    query = first + tl.arange(0, BLOCK_M)
    real = query < lq
    feature, feature_v = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    Q += q_start * stride_qt + head.to(tl.int64) * stride_qh
    D_OUT += q_start * stride_dt + head.to(tl.int64) * stride_dh
    K += k_start * stride_kt + kv_head.to(tl.int64) * stride_kh
    V += k_start * stride_vt + kv_head.to(tl.int64) * stride_vh
    q = load_tile(Q, first, lq, feature, stride_qt, stride_qd, True, D, BLOCK_M, BLOCK_D, UPCAST)
    q = signed(q, SIGN)
    g = load_tile(D_OUT, first, lq, feature_v, stride_dt, stride_dd, True, DV, BLOCK_M, BLOCK_DV, UPCAST)
    plane = tl.cast(total, tl.int64) * heads
    at = head.to(tl.int64) * total + q_start + query
    top = tl.load(STATS + at, mask=real, other=float("inf"))
    shrink = tl.load(STATS + plane + at, mask=real, other=0.0) if EXACT else tl.zeros([BLOCK_M], tl.float32)
    see_first, see_stop = key_range(query, lq, lk, left, right, LEFT, RIGHT)
    last = tl.minimum(first + BLOCK_M, lq) - 1
    start, whole_start, whole_stop, stop = blocks_of_keys(first, last, lq, lk, left, right, BLOCK_N, LEFT, RIGHT)
    if EXACT:  # the same sum over dP as rounded here, so that what should cancel does
        delta = tl.zeros([BLOCK_M], tl.float32)
        for n in tl.range(start, stop, BLOCK_N):
            _, p, dp, _ = _weights_of(
                q, g, top, shrink, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt, stride_vd,
                factor, softcap, BLOCK_N, D, DV, BLOCK_D, BLOCK_DV, True, LEFT, SOFTCAP, EXACT, UPCAST, PRECISION,
            )  # fmt: skip
            delta += tl.sum(p * dp, 1)
    else:
        OUT += (q_start * heads + head) * DV
        out = load_tile(OUT, first, lq, feature_v, heads * DV, 1, True, DV, BLOCK_M, BLOCK_DV, UPCAST)
        delta = tl.sum(out.to(tl.float32) * g.to(tl.float32), 1)
    sees = top < float("inf")
    if SINKS is not None:
        sink = tl.exp2(tl.load(SINKS + head).to(tl.float32) * LOG2E - top)
        if EXACT:
            sink = sink * shrink
        tl.store(D_SINKS + at, -sink * delta, mask=real)
    if D_LSE is not None:
        d_lse = tl.load(D_LSE + (q_start + query) * stride_lt + head.to(tl.int64) * stride_lh, mask=real, other=0.0)
        d_lse = d_lse.to(tl.float32)
        if SINKS is not None:  # the weights without the sink are that much larger
            lse = tl.load(LSE + at, mask=real, other=0.0) * LOG2E
            if EXACT:
                d_lse = d_lse * tl.math.exp2(top - lse) / tl.where(sees, shrink, 1.0)
            else:
                d_lse = d_lse * tl.math.exp2(top - lse)
        delta -= tl.where(sees, d_lse, 0.0)
    delta = tl.where(sees, delta, 0.0)
    if DELTA is not None:
        tl.store(DELTA + at, delta, mask=real)

    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    if LEFT:
        for n in tl.range(start, tl.minimum(whole_start, stop), BLOCK_N):
            dq = _queries_step(
                dq, q, g, top, shrink, delta, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt,
                stride_vd, factor, softcap, BLOCK_N, D, DV, BLOCK_D, BLOCK_DV, True, LEFT, SOFTCAP, EXACT, UPCAST,
                PRECISION,
            )  # fmt: skip
    for n in tl.range(whole_start, whole_stop, BLOCK_N):
        dq = _queries_step(
            dq, q, g, top, shrink, delta, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt,
            stride_vd, factor, softcap, BLOCK_N, D, DV, BLOCK_D, BLOCK_DV, False, LEFT, SOFTCAP, EXACT, UPCAST,
            PRECISION,
        )  # fmt: skip
    for n in tl.range(tl.maximum(whole_start, whole_stop), stop, BLOCK_N):
        dq = _queries_step(
            dq, q, g, top, shrink, delta, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt,
            stride_vd, factor, softcap, BLOCK_N, D, DV, BLOCK_D, BLOCK_DV, True, LEFT, SOFTCAP, EXACT, UPCAST,
            PRECISION,
        )  # fmt: skip
    dq = dq * -scale if SIGN < 0 else dq * scale
    at_dq = ((q_start + query).to(tl.int64) * heads + head)[:, None] * D + feature[None, :]
    tl.store(D_Q + at_dq, dq.to(D_Q.dtype.element_ty), mask=real[:, None] & (feature < D)[None, :])


@triton.jit(
    do_not_specialize=["stride_lt", "stride_lh", "total", "heads", "left", "right"],
    do_not_specialize_on_alignment=["Q_OFFSETS", "K_OFFSETS", "SINKS", "D_LSE"],
)
def queries_kernel(
    Q, K, V, OUT, D_OUT, D_LSE, LSE, STATS, SINKS, DELTA, D_SINKS, D_Q, Q_OFFSETS, K_OFFSETS, TILES,
    stride_lt, stride_lh, stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh,
    stride_vd, stride_dt, stride_dh, stride_dd,
    total, heads, scale, factor, softcap, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, SIGN: tl.constexpr,
    SOFTCAP: tl.constexpr, EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Do what ``queries_tile`` says for the tile of each program."""
    program = tl.program_id(0)
    tile = tl.load(TILES + program // heads)
    if tile < 0:
        return
    queries_tile(
        tile, program, Q, K, V, OUT, D_OUT, D_LSE, LSE, STATS, SINKS, DELTA, D_SINKS, D_Q, Q_OFFSETS, K_OFFSETS,
        stride_lt, stride_lh, stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh,
        stride_vd, stride_dt, stride_dh, stride_dd, total, heads, scale, factor, softcap, left, right,
        GROUP, D, DV, BLOCK_D, BLOCK_DV, BLOCK_M, BLOCK_N, LEFT, RIGHT, SIGN, SOFTCAP, EXACT, UPCAST, PRECISION,
    )  # fmt: skip
