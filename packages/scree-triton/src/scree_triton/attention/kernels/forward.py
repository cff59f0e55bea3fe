"""The forward kernel: a program for each tile of queries and head, an online softmax over blocks of keys.

The layout of the work is that of FlashAttention-2 (Dao 2023); the order of the tiles is ours (``tiles``).
"""

from __future__ import annotations

import triton
import triton.language as tl

from scree_triton.attention.kernels.scores import LOG2E, blocks_of_keys, key_range, load_tile, signed, squashed
from scree_triton.attention.kernels.tiles import lengths_of, place_in, queries_of, row_of


@triton.jit
def _attend(acc, top, sums, q, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt, stride_vd,
            factor, softcap, BLOCK_N: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr,
            BLOCK_DV: tl.constexpr, MASKED: tl.constexpr, LEFT: tl.constexpr, SOFTCAP: tl.constexpr,
            EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr, SUMS: tl.constexpr):  # fmt: skip
    """Take one block of keys into account; MASKED where some query doesn't see all of it."""
    k = load_tile(K, n, lk, tl.arange(0, BLOCK_D), stride_kt, stride_kd, MASKED, D, BLOCK_N, BLOCK_D, UPCAST)
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    if SOFTCAP:
        s = softcap * squashed(s * factor / softcap, EXACT)
        factor = 1.0
    if MASKED:
        key = n + tl.arange(0, BLOCK_N)
        seen = key[None, :] < see_stop[:, None]
        if LEFT:
            seen = seen & (key[None, :] >= see_first[:, None])
        s = tl.where(seen, s, float("-inf"))
    higher = tl.maximum(top, tl.max(s, 1) * factor)
    base = tl.where(higher == float("-inf"), 0.0, higher) if MASKED else higher
    p = tl.math.exp2(s * factor - base[:, None])
    fade = tl.math.exp2(top - base)
    if SUMS == 1:
        sums = sums * fade + tl.sum(p, 1)
    else:
        sums = sums * fade[:, None] + tl.sum(tl.reshape(p, [p.shape[0], BLOCK_N // SUMS, SUMS]), 1)
    acc = acc * fade[:, None]
    v = load_tile(V, n, lk, tl.arange(0, BLOCK_DV), stride_vt, stride_vd, MASKED, DV, BLOCK_N, BLOCK_DV, UPCAST)
    acc = tl.dot(p.to(v.dtype), v, acc, input_precision=PRECISION)
    return acc, higher, sums


@triton.jit(
    do_not_specialize=["total", "heads", "left", "right"],
    do_not_specialize_on_alignment=["Q_OFFSETS", "K_OFFSETS", "SINKS"],
)
def forward_kernel(
    Q, K, V, OUT, LSE, STATS, SINKS, Q_OFFSETS, K_OFFSETS, TILES,
    stride_qt, stride_qh, stride_qd, stride_kt, stride_kh, stride_kd, stride_vt, stride_vh, stride_vd,
    total, heads, factor, softcap, left, right,
    GROUP: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, SIGN: tl.constexpr,
    SOFTCAP: tl.constexpr, EXACT: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Write output, lse and what backward needs of the denominators, for one tile of queries and one head.

    A query's weights are added up in SUMS places, which are added once for a tile: see ``told.sums``.
    """
    program = tl.program_id(0)
    tile = tl.load(TILES + program // heads)
    if tile < 0:
        return
    row, j = row_of(tile), place_in(tile)
    q_start, k_start, lq, lk = lengths_of(row, Q_OFFSETS, K_OFFSETS)
    first, head = queries_of(j, program, heads, lq, BLOCK_M, GROUP)
    kv_head = head // GROUP

    Q += q_start * stride_qt + head.to(tl.int64) * stride_qh
    K += k_start * stride_kt + kv_head.to(tl.int64) * stride_kh
    V += k_start * stride_vt + kv_head.to(tl.int64) * stride_vh
    q = load_tile(Q, first, lq, tl.arange(0, BLOCK_D), stride_qt, stride_qd, True, D, BLOCK_M, BLOCK_D, UPCAST)
    q = signed(q, SIGN)
    query = first + tl.arange(0, BLOCK_M)
    see_first, see_stop = key_range(query, lq, lk, left, right, LEFT, RIGHT)
    last = tl.minimum(first + BLOCK_M, lq) - 1
    start, whole_start, whole_stop, stop = blocks_of_keys(first, last, lq, lk, left, right, BLOCK_N, LEFT, RIGHT)

    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    sums = tl.zeros([BLOCK_M] if SUMS == 1 else [BLOCK_M, SUMS], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_DV], tl.float32)
    if LEFT:
        for n in tl.range(start, tl.minimum(whole_start, stop), BLOCK_N):
            acc, top, sums = _attend(
                acc, top, sums, q, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt, stride_vd,
                factor, softcap, BLOCK_N, D, DV, BLOCK_D, BLOCK_DV, True, LEFT, SOFTCAP, EXACT, UPCAST, PRECISION, SUMS,
            )  # fmt: skip
    for n in tl.range(whole_start, whole_stop, BLOCK_N):
        acc, top, sums = _attend(
            acc, top, sums, q, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt, stride_vd,
            factor, softcap, BLOCK_N, D, DV, BLOCK_D, BLOCK_DV, False, LEFT, SOFTCAP, EXACT, UPCAST, PRECISION, SUMS,
        )  # fmt: skip
    for n in tl.range(tl.maximum(whole_start, whole_stop), stop, BLOCK_N):
        acc, top, sums = _attend(
            acc, top, sums, q, K, V, n, lk, see_first, see_stop, stride_kt, stride_kd, stride_vt, stride_vd,
            factor, softcap, BLOCK_N, D, DV, BLOCK_D, BLOCK_DV, True, LEFT, SOFTCAP, EXACT, UPCAST, PRECISION, SUMS,
        )  # fmt: skip

    real = query < lq
    if SUMS > 1:
        sums = tl.sum(sums, 1)
    sees = sums > 0
    plane = tl.cast(total, tl.int64) * heads
    at = head.to(tl.int64) * total + q_start + query
    sums = tl.where(sees, sums, 1.0)
    if LSE is not None:
        tl.store(LSE + at, tl.where(sees, (top + tl.math.log2(sums)) / LOG2E, float("-inf")), mask=real)
    whole = sums
    if SINKS is not None:
        sink = tl.load(SINKS + head).to(tl.float32) * LOG2E
        base = tl.where(sees, tl.maximum(top, sink), 0.0)  # both may be -inf
        fade = tl.math.exp2(top - base)
        whole = tl.where(sees, sums * fade + tl.math.exp2(sink - base), 1.0)
        acc = acc * fade[:, None]
        top = base
    # Weights are rebuilt from these. A rounded log would cost float32 what it has over halves.
    if STATS is not None:
        if EXACT:
            tl.store(STATS + at, tl.where(sees, top, float("inf")), mask=real)
            tl.store(STATS + plane + at, tl.where(sees, 1 / whole, 0.0), mask=real)
        else:
            tl.store(STATS + at, tl.where(sees, top + tl.math.log2(whole), float("inf")), mask=real)
    acc = acc / whole[:, None]
    feature = tl.arange(0, BLOCK_DV)
    at_out = ((q_start + query).to(tl.int64) * heads + head)[:, None] * DV + feature[None, :]
    tl.store(OUT + at_out, acc.to(OUT.dtype.element_ty), mask=real[:, None] & (feature < DV)[None, :])
