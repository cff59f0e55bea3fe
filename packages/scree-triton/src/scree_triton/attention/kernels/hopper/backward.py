"""The backward kernel for Hopper's big calls: one pass over the scores for dq, dk and dv.

A program has a tile of keys and goes through the queries that see them. One warp loads; two groups of four warps own
half of the keys each: their scores, dP, and dk and dv in registers. For dq, which is a sum over all keys of a row, each
group hands its slopes to the other in shared memory, multiplies both halves' by half of the features, and adds the
products to sums in float32 in global memory: 5 products where ``queries_kernel`` and ``keys_kernel`` take 7 between
them. This division of the work is FlashAttention-3's (Shah et al. 2024).

Programs add in any order, so dq isn't the same in every run; dk and dv are.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from scree_triton.attention.kernels import tiles
from scree_triton.attention.kernels.hopper.forward import _copy

_row_of = gluon.jit(tiles.row_of.fn)
_place_in = gluon.jit(tiles.place_in.fn)
_lengths_of = gluon.jit(tiles.lengths_of.fn)


@gluon.jit
def _fetch(n, m, q_desc, d_desc, STATS_AT, DELTA_AT, queries, d_outs, tops, deltas, q_ready, q_free, d_ready, d_free,
           n_ready, q_start, lq, head, BLOCK_M: gl.constexpr, D: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    """Begin to load a block of queries as the n-th of all, when its place is free."""
    stage = n % STAGES
    phase = ((n // STAGES) & 1) ^ 1
    mbarrier.wait(q_free.index(stage), phase)
    mbarrier.expect(q_ready.index(stage), BLOCK_M * D * 2)
    _copy(q_desc, q_start, lq, m, head, q_ready.index(stage), queries.index(stage))
    query = m + gl.arange(0, BLOCK_M, gl.BlockedLayout([BLOCK_M // 32], [32], [1], [0]))
    top = gl.load(STATS_AT + query, mask=query < lq, other=float("inf"))
    delta = gl.load(DELTA_AT + query, mask=query < lq, other=0.0)
    mbarrier.wait(d_free.index(stage), phase)
    mbarrier.expect(d_ready.index(stage), BLOCK_M * D * 2)
    _copy(d_desc, q_start, lq, m, head, d_ready.index(stage), d_outs.index(stage))
    tops.index(stage).store(top)
    deltas.index(stage).store(delta)
    mbarrier.arrive(n_ready.index(stage), count=1)


@gluon.jit
def _load(q_desc, k_desc, v_desc, d_desc, STATS, DELTA, queries, keys, values, d_outs, tops, deltas, kv_ready, q_ready,
          q_free, d_ready, d_free, n_ready, q_start, k_start, lq, lk, first, kv_head, start, whole, turn, total, group,
          RIGHT: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, D: gl.constexpr,
          STAGES: gl.constexpr):  # fmt: skip
    """Load keys and values, then block after block of queries: the part of one warp."""
    HALF: gl.constexpr = BLOCK_N // 2
    for half in gl.static_range(2):
        mbarrier.expect(kv_ready.index(half), 2 * HALF * D * 2)
        _copy(k_desc, k_start, lk, first + half * HALF, kv_head, kv_ready.index(half), keys.index(half))
        _copy(v_desc, k_start, lk, first + half * HALF, kv_head, kv_ready.index(half), values.index(half))
    n = 0  # blocks so far
    for member in range(group):
        head = kv_head * group + member
        at = head.to(gl.int64) * total + q_start
        for m in range(start, whole, BLOCK_M):
            _fetch(n, m, q_desc, d_desc, STATS + at, DELTA + at, queries, d_outs, tops, deltas, q_ready, q_free,
                   d_ready, d_free, n_ready, q_start, lq, head, BLOCK_M, D, STAGES)  # fmt: skip
            n += 1
        m = turn
        for _ in range(whole, lq, BLOCK_M):
            _fetch(n, m, q_desc, d_desc, STATS + at, DELTA + at, queries, d_outs, tops, deltas, q_ready, q_free,
                   d_ready, d_free, n_ready, q_start, lq, head, BLOCK_M, D, STAGES)  # fmt: skip
            n += 1
            m = _behind(m, whole, lq, RIGHT, BLOCK_M)


@gluon.jit
def _behind(m, whole, lq, RIGHT: gl.constexpr, BLOCK: gl.constexpr):
    """Return the block behind one of those that see all keys; behind the last is the first."""
    m += BLOCK
    return m if RIGHT else gl.where(m < lq, m, whole)


@gluon.jit
def _add(SUMS, x, half: gl.constexpr, BLOCK_M: gl.constexpr, D: gl.constexpr):
    """Add half of the features of a block of queries to its sums, four numbers of a thread at a time.

    They lie as threads hold them, so that a warp adds to 512 bytes in a row: by 8 of the features, then 16 of the
    queries, then what is beside each other in a warp, 2 queries that are 8 apart, 2 features.
    """
    HALF: gl.constexpr = D // 2
    row = gl.arange(0, BLOCK_M, gl.SliceLayout(1, x.type.layout))
    column = gl.arange(0, HALF, gl.SliceLayout(0, x.type.layout))
    of_row = ((row >> 3) & 1) * 2 + (row & 7) * 16 + (row >> 4) * 128
    of_column = (column & 1) + ((column >> 1) & 3) * 4 + (column >> 3) * (8 * BLOCK_M)
    at = SUMS + half * (BLOCK_M * HALF) + of_row[:, None] + of_column[None, :]
    gl.inline_asm_elementwise(
        "red.relaxed.gpu.global.add.v4.f32 [$4], {$8, $9, $10, $11};", "=r,=r,=r,=r,l,l,l,l,f,f,f,f",
        [at.to(gl.int64, bitcast=True), x], dtype=gl.int32, is_pure=False, pack=4,
    )  # fmt: skip


@gluon.jit
def _step(half: gl.constexpr, n, m, SUMS, k, v, queries, keys, d_outs, tops, deltas, slopes, q_ready, q_free, d_ready,
          d_free, n_ready, s_ready, s_free, dk, dv, key, shift, lk, factor, RIGHT: gl.constexpr, BLOCK_M: gl.constexpr,
          BLOCK_N: gl.constexpr, D: gl.constexpr, STAGES: gl.constexpr, MASKED: gl.constexpr):  # fmt: skip
    """Take the n-th block of queries into account. Scores lie with their keys first, as registers of both products."""
    HALF: gl.constexpr = BLOCK_N // 2
    ADDS_LONG: gl.constexpr = D > 64
    DTYPE: gl.constexpr = keys.dtype
    S: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_M, 16])
    ACC: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    DQ: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D // 2, 16])
    P: gl.constexpr = gl.DotOperandLayout(0, ACC, 2)
    stage = n % STAGES
    phase = (n // STAGES) & 1
    turn = n % 2
    none = gl.zeros([HALF, BLOCK_M], gl.float32, S)
    q = queries.index(stage).reshape([BLOCK_M, D])
    d_out = d_outs.index(stage).reshape([BLOCK_M, D])
    mbarrier.wait(q_ready.index(stage), phase)
    s = warpgroup_mma(k, q.permute((1, 0)), none, use_acc=False, is_async=True)
    mbarrier.wait(d_ready.index(stage), phase)
    dp = warpgroup_mma(v, d_out.permute((1, 0)), none, use_acc=False, is_async=True)
    mbarrier.wait(n_ready.index(stage), phase)
    top = tops.index(stage).load(gl.SliceLayout(0, S))
    s = warpgroup_mma_wait(1, deps=(s,))
    p = gl.exp2(s * factor - top[None, :])
    if MASKED:  # behind the last key, where a weight of infinity would turn zeros into NaN, too
        query = m + gl.arange(0, BLOCK_M, gl.SliceLayout(0, S))
        seen = (key < lk)[:, None]
        if RIGHT:
            seen = seen & (key[:, None] <= (query + shift)[None, :])
        p = gl.where(seen, p, 0.0)
    dv = warpgroup_mma(gl.convert_layout(p.to(DTYPE), P, assert_trivial=True), d_out, dv, is_async=True)
    dp = warpgroup_mma_wait(1, deps=(dp,))
    delta = deltas.index(stage).load(gl.SliceLayout(0, S))
    ds = (p * (dp - delta[None, :])).to(DTYPE)
    mbarrier.wait(s_free.index(turn), ((n // 2) & 1) ^ 1)
    slopes.index(2 * turn + half).store(ds)
    fence_async_shared()
    mbarrier.arrive(s_ready.index(turn), count=1)
    if not ADDS_LONG:  # then dk fills the time until the other group has its slopes, else that of adding dq
        dk = warpgroup_mma(gl.convert_layout(ds, P, assert_trivial=True), q, dk, is_async=True)
    mbarrier.wait(s_ready.index(turn), (n // 2) & 1)
    dq = gl.zeros([BLOCK_M, D // 2], gl.float32, DQ)
    for other in gl.static_range(2):
        some = keys.index(other).reshape([HALF, D]).slice(half * (D // 2), D // 2, dim=1)
        dq = warpgroup_mma(slopes.index(2 * turn + other).permute((1, 0)), some, dq, use_acc=other > 0, is_async=True)
    if ADDS_LONG:
        dk = warpgroup_mma(gl.convert_layout(ds, P, assert_trivial=True), q, dk, is_async=True)
    dv = warpgroup_mma_wait(3, deps=(dv,))
    mbarrier.arrive(d_free.index(stage), count=1)
    if not ADDS_LONG:
        dk = warpgroup_mma_wait(2, deps=(dk,))
        mbarrier.arrive(q_free.index(stage), count=1)
    dq = warpgroup_mma_wait(1 if ADDS_LONG else 0, deps=(dq,))
    mbarrier.arrive(s_free.index(turn), count=1)
    _add(SUMS + m * D, dq, half, BLOCK_M, D)
    if ADDS_LONG:
        dk = warpgroup_mma_wait(0, deps=(dk,))
        mbarrier.arrive(q_free.index(stage), count=1)
    return dk, dv


@gluon.jit
def _differentiate(half: gl.constexpr, SUMS, D_K, D_V, queries, keys, values, d_outs, tops, deltas, slopes, kv_ready,
                   q_ready, q_free, d_ready, d_free, n_ready, s_ready, s_free, row, q_start, k_start, lq, lk, first,
                   kv_head, start, whole, turn, padded, heads, group, factor, scale,
                   RIGHT: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, D: gl.constexpr,
                   STAGES: gl.constexpr):  # fmt: skip
    """Compute dk and dv of half of the keys, and what they add to dq: the part of one group of warps."""
    HALF: gl.constexpr = BLOCK_N // 2
    S: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_M, 16])
    ACC: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    DTYPE: gl.constexpr = keys.dtype
    key = first + half * HALF + gl.arange(0, HALF, gl.SliceLayout(1, S))
    dk = gl.zeros([HALF, D], gl.float32, ACC)
    dv = gl.zeros([HALF, D], gl.float32, ACC)
    k = keys.index(half).reshape([HALF, D])
    v = values.index(half).reshape([HALF, D])
    mbarrier.wait(kv_ready.index(half), 0)
    n = 0  # blocks so far
    for member in range(group):
        head = kv_head * group + member
        # Each row has room for a block more, so that what a last block adds behind its end is nobody's.
        SUMS_AT = SUMS + (head.to(gl.int64) * padded + q_start + row * BLOCK_M) * D
        for m in range(start, whole, BLOCK_M):
            dk, dv = _step(
                half, n, m, SUMS_AT, k, v, queries, keys, d_outs, tops, deltas, slopes, q_ready, q_free, d_ready,
                d_free, n_ready, s_ready, s_free, dk, dv, key, lk - lq, lk, factor, RIGHT, BLOCK_M, BLOCK_N, D, STAGES,
                True,
            )  # fmt: skip
            n += 1
        m = turn
        for _ in range(whole, lq, BLOCK_M):
            dk, dv = _step(
                half, n, m, SUMS_AT, k, v, queries, keys, d_outs, tops, deltas, slopes, q_ready, q_free, d_ready,
                d_free, n_ready, s_ready, s_free, dk, dv, key, lk - lq, lk, factor, RIGHT, BLOCK_M, BLOCK_N, D, STAGES,
                False,
            )  # fmt: skip
            n += 1
            m = _behind(m, whole, lq, RIGHT, BLOCK_M)
    key = first + half * HALF + gl.arange(0, HALF, gl.SliceLayout(1, ACC))
    at = ((k_start + key).to(gl.int64) * (heads // group) + kv_head)[:, None] * D
    at += gl.arange(0, D, gl.SliceLayout(0, ACC))[None, :]
    gl.store(D_K + at, (dk * scale).to(DTYPE), mask=(key < lk)[:, None])
    gl.store(D_V + at, dv.to(DTYPE), mask=(key < lk)[:, None])


@gluon.jit(
    do_not_specialize=["total", "padded", "heads", "group"],
    do_not_specialize_on_alignment=["Q_OFFSETS", "K_OFFSETS", "STATS", "DELTA"],
)
def hopper_backward_kernel(
    STATS, DELTA, SUMS, D_K, D_V, Q_OFFSETS, K_OFFSETS, TILES, q_desc, k_desc, v_desc, d_desc,
    total, padded, heads, group, factor, scale,
    RIGHT: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, D: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Write dk and dv for a tile of keys and one of their heads, and add to SUMS what the tile has to dq.

    SUMS, ``(heads, padded, D)``, is zero at the start; DELTA is what ``means_kernel`` left.
    """
    program = gl.program_id(0)
    kv_heads = heads // group
    tile = gl.load(TILES + program // kv_heads)
    if tile < 0:
        return
    row = _row_of(tile)
    q_start, k_start, lq, lk = _lengths_of(row, Q_OFFSETS, K_OFFSETS)
    q_start, k_start = q_start.to(gl.int32), k_start.to(gl.int32)
    count = (lk + BLOCK_N - 1) // BLOCK_N
    place = program - (program // kv_heads - _place_in(tile)) * kv_heads
    kv_head = place // count
    first = (place % count) * BLOCK_N  # from the first, which a causal row has most work for
    # Queries from ``start`` on see the first key, from ``whole`` on all.
    start, whole = lq * 0, lq * 0
    if RIGHT:
        shift = lk - lq
        start = gl.maximum(first - shift, 0) // BLOCK_M * BLOCK_M
        whole = (gl.maximum(first + BLOCK_N - 1 - shift, 0) + BLOCK_M - 1) // BLOCK_M * BLOCK_M
    whole = gl.where(first + BLOCK_N > lk, lq, gl.minimum(whole, lq))
    turn = whole
    if not RIGHT:  # else many programs would start with one block, and add to the same sums at once
        turn += first // BLOCK_N * 7 % gl.maximum((lq - whole + BLOCK_M - 1) // BLOCK_M, 1) * BLOCK_M

    HALF: gl.constexpr = BLOCK_N // 2
    queries = gl.allocate_shared_memory(q_desc.dtype, [STAGES, 1, 1, 1, BLOCK_M, D], q_desc.layout)
    d_outs = gl.allocate_shared_memory(d_desc.dtype, [STAGES, 1, 1, 1, BLOCK_M, D], d_desc.layout)
    keys = gl.allocate_shared_memory(k_desc.dtype, [2, 1, 1, 1, HALF, D], k_desc.layout)
    values = gl.allocate_shared_memory(v_desc.dtype, [2, 1, 1, 1, HALF, D], v_desc.layout)
    SLOPES: gl.constexpr = gl.NVMMASharedLayout.get_default_for([HALF, BLOCK_M], k_desc.dtype)
    slopes = gl.allocate_shared_memory(k_desc.dtype, [4, HALF, BLOCK_M], SLOPES)
    LINE: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    tops = gl.allocate_shared_memory(gl.float32, [STAGES, BLOCK_M], LINE)
    deltas = gl.allocate_shared_memory(gl.float32, [STAGES, BLOCK_M], LINE)
    BARRIER: gl.constexpr = mbarrier.MBarrierLayout()
    kv_ready = gl.allocate_shared_memory(gl.int64, [2, 1], BARRIER)
    s_ready = gl.allocate_shared_memory(gl.int64, [2, 1], BARRIER)
    s_free = gl.allocate_shared_memory(gl.int64, [2, 1], BARRIER)
    q_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    q_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    d_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    d_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    n_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    for i in gl.static_range(2):
        mbarrier.init(kv_ready.index(i), count=1)
        mbarrier.init(s_ready.index(i), count=2)
        mbarrier.init(s_free.index(i), count=2)
    for i in gl.static_range(STAGES):
        mbarrier.init(q_ready.index(i), count=1)
        mbarrier.init(d_ready.index(i), count=1)
        mbarrier.init(n_ready.index(i), count=1)
        mbarrier.init(q_free.index(i), count=2)
        mbarrier.init(d_free.index(i), count=2)
    fence_async_shared()
    gl.warp_specialize(
        [
            (_differentiate, (0, SUMS, D_K, D_V, queries, keys, values, d_outs, tops, deltas, slopes, kv_ready, q_ready,
                              q_free, d_ready, d_free, n_ready, s_ready, s_free, row, q_start, k_start, lq, lk, first,
                              kv_head, start, whole, turn, padded, heads, group, factor, scale,
                              RIGHT, BLOCK_M, BLOCK_N, D, STAGES)),
            (_differentiate, (1, SUMS, D_K, D_V, queries, keys, values, d_outs, tops, deltas, slopes, kv_ready, q_ready,
                              q_free, d_ready, d_free, n_ready, s_ready, s_free, row, q_start, k_start, lq, lk, first,
                              kv_head, start, whole, turn, padded, heads, group, factor, scale,
                              RIGHT, BLOCK_M, BLOCK_N, D, STAGES)),
            (_load, (q_desc, k_desc, v_desc, d_desc, STATS, DELTA, queries, keys, values, d_outs, tops, deltas,
                     kv_ready, q_ready, q_free, d_ready, d_free, n_ready, q_start, k_start, lq, lk, first, kv_head,
                     start, whole, turn, total, group, RIGHT, BLOCK_M, BLOCK_N, D, STAGES)),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip
