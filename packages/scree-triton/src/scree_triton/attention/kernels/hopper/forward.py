"""The forward kernel for Hopper's big calls: one warp loads, two groups of four warps take turns at multiplying.

Written in Gluon, since plain Triton can't say who does what. The division of the work is FlashAttention-3's (Shah et
al. 2024): a warp brings queries, keys and values into shared memory by the copy engine (TMA); two groups own 64
queries each, and take turns: one computes exponentials while the other multiplies. As many programs run as there are
multiprocessors, and each takes the next tile from a counter, in the order of the map (``tiles``): so the loading warp
is in the next tile already while the groups finish this one.

All signals are barriers in shared memory whose phase flips when what was announced has happened. One that was never
used counts as if phase 1 had passed: who waits for a slot to be free may start at once.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from scree_triton.attention.kernels import scores, tiles

_load_block = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared  # up to Triton 3.6
LOG2E = gl.constexpr(1.4426950408889634)
FAR = gl.constexpr(1 << 30)
"""Where a described row of elements ends: see ``descriptions.describe``."""

_row_of = gluon.jit(tiles.row_of.fn)
_place_in = gluon.jit(tiles.place_in.fn)
_lengths_of = gluon.jit(tiles.lengths_of.fn)
_queries_of = gluon.jit(tiles.queries_of.fn)
_blocks_of_keys = gluon.jit(scores.blocks_of_keys.fn)


@gluon.jit
def _tile_of(program, programs, heads, TILES):
    """Return a program's tile, or -1."""
    return gl.load(TILES + program // heads, mask=program < programs, other=-1)


@gluon.jit
def _copy(desc, start, length, element, head, ready, block):
    """Begin to load a block of a row of ``length`` elements; zeros from its end on. See ``descriptions.describe``."""
    _load_block(desc, [FAR, start + length, head, FAR - length + element, 0], ready, block)


@gluon.jit
def _fetch(desc, start, length, block, head, n, ready, free, stages, BLOCK: gl.constexpr, D: gl.constexpr,
           STAGES: gl.constexpr):  # fmt: skip
    """Begin to load a row's block as the n-th of all, when its place is free."""
    stage = n % STAGES
    mbarrier.wait(free.index(stage), ((n // STAGES) & 1) ^ 1)
    mbarrier.expect(ready.index(stage), BLOCK * D * 2)
    _copy(desc, start, length, block * BLOCK, head, ready.index(stage), stages.index(stage))


@gluon.jit
def _tell(message, told, blocks, whole, first, head, lq, lk, q_start):
    """Tell both groups about a tile."""
    lane = gl.arange(0, 8, gl.BlockedLayout([1], [32], [1], [0]))
    x = gl.where(lane == 0, blocks, q_start)
    x = gl.where(lane == 1, whole, x)
    x = gl.where(lane == 2, first, x)
    x = gl.where(lane == 3, head, x)
    x = gl.where(lane == 4, lq, x)
    x = gl.where(lane == 5, lk, x)
    message.store(x)
    mbarrier.arrive(told, count=1)


@gluon.jit
def _heard(messages, told, turn):
    """Wait for a tile and return what is told about it."""
    mbarrier.wait(told.index(turn % 2), (turn // 2) & 1)
    layout: gl.constexpr = gl.BlockedLayout([8], [32], [4], [0])
    lane = gl.arange(0, 8, layout)
    x = messages.index(turn % 2).load(layout)
    blocks = gl.sum(gl.where(lane == 0, x, 0), 0)
    whole = gl.sum(gl.where(lane == 1, x, 0), 0)
    first = gl.sum(gl.where(lane == 2, x, 0), 0)
    head = gl.sum(gl.where(lane == 3, x, 0), 0)
    lq = gl.sum(gl.where(lane == 4, x, 0), 0)
    lk = gl.sum(gl.where(lane == 5, x, 0), 0)
    q_start = gl.sum(gl.where(lane == 6, x, 0), 0)
    return blocks, whole, first, head, lq, lk, q_start


@gluon.jit
def _load(q_desc, k_desc, v_desc, queries, keys, values, messages, told, q_ready, q_free, k_ready, k_free, v_ready,
          v_free, Q_OFFSETS, K_OFFSETS, TILES, COUNTER, programs, heads, group, RIGHT: gl.constexpr,
          BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, D: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    """Load tile after tile: the part of one warp."""
    HALF: gl.constexpr = BLOCK_M // 2
    program = gl.program_id(0)
    tile = _tile_of(program, programs, heads, TILES)
    turn = 0
    n = 0  # blocks so far
    while tile >= 0:
        q_start, k_start, lq, lk = _lengths_of(_row_of(tile), Q_OFFSETS, K_OFFSETS)
        first, head = _queries_of(_place_in(tile), program, heads, lq, BLOCK_M, group)
        last = gl.minimum(first + BLOCK_M, lq) - 1
        _, _, whole_stop, stop = _blocks_of_keys(first, last, lq, lk, 0, 0, BLOCK_N, False, RIGHT)
        # A tile that sees no key goes through one block all the same, and finds nothing in it.
        blocks = gl.maximum((stop + BLOCK_N - 1) // BLOCK_N, 1)
        q_start, k_start = q_start.to(gl.int32), k_start.to(gl.int32)
        kv_head = head // group
        slot = turn % 2
        for half in gl.static_range(2):
            mbarrier.wait(q_free.index(2 * slot + half), ((turn // 2) & 1) ^ 1)
        _tell(messages.index(slot), told.index(slot), blocks, whole_stop // BLOCK_N, first, head, lq, lk, q_start)
        for half in gl.static_range(2):
            at = 2 * slot + half
            mbarrier.expect(q_ready.index(at), HALF * D * 2)
            _copy(q_desc, q_start, lq, first + half * HALF, head, q_ready.index(at), queries.index(at))
        # Asked for now, the next is there when this tile's blocks have been loaded.
        program = gl.num_programs(0) + gl.atomic_add(COUNTER, 1)
        tile = _tile_of(program, programs, heads, TILES)
        # Keys are a block ahead of values: they are needed first, and their memory is free earlier.
        _fetch(k_desc, k_start, lk, blocks - 1, kv_head, n, k_ready, k_free, keys, BLOCK_N, D, STAGES)
        for i in range(1, blocks):
            _fetch(k_desc, k_start, lk, blocks - 1 - i, kv_head, n + i, k_ready, k_free, keys, BLOCK_N, D, STAGES)
            _fetch(v_desc, k_start, lk, blocks - i, kv_head, n + i - 1, v_ready, v_free, values, BLOCK_N, D, STAGES)
        n += blocks
        _fetch(v_desc, k_start, lk, 0, kv_head, n - 1, v_ready, v_free, values, BLOCK_N, D, STAGES)
        turn += 1
    slot = turn % 2
    for half in gl.static_range(2):
        mbarrier.wait(q_free.index(2 * slot + half), ((turn // 2) & 1) ^ 1)
    _tell(messages.index(slot), told.index(slot), 0, 0, 0, 0, 0, 0, 0)


@gluon.jit
def _weigh(s, top, factor, see_stop, first, MASKED: gl.constexpr):
    """Return the weights of a block of keys, the largest scores so far, and by what older weights fade."""
    if MASKED:
        # Compiled as it is written, behind the scores: before them, ptxas would keep what is seen in bits of integers.
        limit = gl.inline_asm_elementwise(
            "mov.b32 $0, $1;", "=r,r", [see_stop - first], dtype=gl.int32, is_pure=False, pack=1
        )
        column = gl.arange(0, s.shape[1], gl.SliceLayout(0, s.type.layout))
        s = gl.where(column[None, :] < limit[:, None], s, float("-inf"))
    higher = gl.maximum(top, gl.max(s, 1) * factor)
    base = gl.where(higher == float("-inf"), 0.0, higher) if MASKED else higher
    p = gl.exp2(s * factor - base[:, None])
    fade = gl.exp2(top - base)
    return p, higher, fade


@gluon.jit
def _added(p):
    """Return the sums of what each thread has of the weights, ``(queries, 4)``: the rest is added once for a tile."""
    return gl.sum(gl.sum(p.reshape([p.shape[0], p.shape[1] // 8, 4, 2]), 3), 1)


@gluon.jit
def _along(x, other):
    """Return numbers of the queries as ``(queries, 1)``, held by the threads that hold the same queries of another."""
    return gl.convert_layout(x, gl.SliceLayout(1, other.type.layout), assert_trivial=True)[:, None]


@gluon.jit
def _packed(weights, DTYPE: gl.constexpr):
    """Round weights, two to a register: as halves that a loop carries, each would take one."""
    pairs = weights.reshape([weights.shape[0], weights.shape[1] // 2, 2])
    low, high = gl.split(pairs)
    convert: gl.constexpr = "cvt.rn.bf16x2.f32 $0, $2, $1;" if DTYPE == gl.bfloat16 else "cvt.rn.f16x2.f32 $0, $2, $1;"
    return gl.inline_asm_elementwise(convert, "=r,r,r", [low, high], dtype=gl.int32, is_pure=True, pack=1)


@gluon.jit
def _unpacked(pairs, DTYPE: gl.constexpr, P: gl.constexpr):
    """Return weights as a product takes them."""
    low = pairs.to(gl.int16).to(DTYPE, bitcast=True)
    high = (pairs >> 16).to(gl.int16).to(DTYPE, bitcast=True)
    return gl.convert_layout(gl.join(low, high).reshape([pairs.shape[0], pairs.shape[1] * 2]), P, assert_trivial=True)


@gluon.jit
def _step(half: gl.constexpr, i, n, steps, blocks, q, keys, values, k_ready, k_free, v_ready, v_free, go, none, p, acc,
          top, sums, factor, see_stop, P: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr,
          MASKED: gl.constexpr):  # fmt: skip
    """Multiply by block ``i`` of keys and by the values of the one before, and weigh the new scores.

    ptxas waits for both products before it weighs, whatever is written here. A branch between them hinders it, so that
    a group's exponentials run beside its own second product; that was slower, since the other group has work enough.
    """
    stage = n % STAGES
    before = (n - 1) % STAGES
    mbarrier.wait(go.index(half), (steps & 1) ^ (1 - half))
    mbarrier.wait(k_ready.index(stage), (n // STAGES) & 1)
    s = warpgroup_mma(
        q, keys.index(stage).reshape([BLOCK_N, q.shape[1]]).permute((1, 0)), none, use_acc=False, is_async=True
    )
    mbarrier.wait(v_ready.index(before), ((n - 1) // STAGES) & 1)
    out = warpgroup_mma(
        _unpacked(p, keys.dtype, P), values.index(before).reshape([BLOCK_N, q.shape[1]]), acc, is_async=True
    )
    mbarrier.arrive(go.index(1 - half), count=1)
    s = warpgroup_mma_wait(1, deps=(s,))
    mbarrier.arrive(k_free.index(stage), count=1)
    weights, top, fade = _weigh(s, top, factor, see_stop, (blocks - 1 - i) * BLOCK_N, MASKED)
    sums = sums * _along(fade, sums) + _added(weights)
    acc, weights = warpgroup_mma_wait(0, deps=(out, weights))
    mbarrier.arrive(v_free.index(before), count=1)
    acc = acc * _along(fade, acc)
    return _packed(weights, keys.dtype), acc, top, sums


@gluon.jit
def _attend(half: gl.constexpr, OUT, LSE, STATS, SINKS, queries, keys, values, messages, told, q_ready, q_free, k_ready,
            k_free, v_ready, v_free, go, total, heads, factor, RIGHT: gl.constexpr, HAS_LSE: gl.constexpr,
            HAS_STATS: gl.constexpr, HAS_SINKS: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
            D: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    """Compute tile after tile, 64 queries of each: the part of one group of warps."""
    HALF: gl.constexpr = BLOCK_M // 2
    DTYPE: gl.constexpr = OUT.dtype.element_ty
    S: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    ACC: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    P: gl.constexpr = gl.DotOperandLayout(0, ACC, 2)
    OUTPUT: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])  # 16 bytes of a thread, a row of 16
    none = gl.zeros([HALF, BLOCK_N], gl.float32, S)
    place = half * HALF + gl.arange(0, HALF, gl.SliceLayout(1, S))
    turn = 0
    n = 0  # blocks so far
    steps = 0  # in which the groups take turns: all but the first of each tile
    blocks, whole, first, head, lq, lk, q_start = _heard(messages, told, turn)
    while blocks > 0:
        query = first + place
        see_stop = gl.minimum(query + (lk - lq) + 1, lk) if RIGHT else gl.zeros_like(query) + lk
        top = gl.full([HALF], float("-inf"), gl.float32, gl.SliceLayout(1, S))
        acc = gl.zeros([HALF, D], gl.float32, ACC)

        slot = 2 * (turn % 2) + half
        q = queries.index(slot).reshape([HALF, D])
        mbarrier.wait(q_ready.index(slot), (turn // 2) & 1)
        mbarrier.wait(k_ready.index(n % STAGES), (n // STAGES) & 1)
        s = warpgroup_mma(
            q, keys.index(n % STAGES).reshape([BLOCK_N, D]).permute((1, 0)), none, use_acc=False, is_async=True
        )
        s = warpgroup_mma_wait(0, deps=(s,))
        mbarrier.arrive(k_free.index(n % STAGES), count=1)
        p, top, _ = _weigh(s, top, factor, see_stop, (blocks - 1) * BLOCK_N, True)
        sums = _added(p)
        p = _packed(p, DTYPE)
        masked = gl.maximum(blocks - whole, 1)
        for i in range(1, masked):
            p, acc, top, sums = _step(
                half, i, n + i, steps + i - 1, blocks, q, keys, values, k_ready, k_free, v_ready, v_free, go, none, p,
                acc, top, sums, factor, see_stop, P, BLOCK_N, STAGES, True,
            )  # fmt: skip
        for i in range(masked, blocks):
            p, acc, top, sums = _step(
                half, i, n + i, steps + i - 1, blocks, q, keys, values, k_ready, k_free, v_ready, v_free, go, none, p,
                acc, top, sums, factor, see_stop, P, BLOCK_N, STAGES, False,
            )  # fmt: skip
        n += blocks
        steps += blocks - 1
        mbarrier.arrive(q_free.index(slot), count=1)
        mbarrier.wait(v_ready.index((n - 1) % STAGES), ((n - 1) // STAGES) & 1)
        out = warpgroup_mma(
            _unpacked(p, DTYPE, P), values.index((n - 1) % STAGES).reshape([BLOCK_N, D]), acc, is_async=True
        )

        real = query < lq
        sums = gl.convert_layout(gl.sum(sums, 1), gl.SliceLayout(1, S), assert_trivial=True)
        sees = sums > 0
        at = head.to(gl.int64) * total + q_start + query
        sums = gl.where(sees, sums, 1.0)
        if HAS_LSE:
            gl.store(LSE + at, gl.where(sees, (top + gl.log2(sums)) / LOG2E, float("-inf")), mask=real)
        shrink = 1.0 / sums
        if HAS_SINKS:
            sink = gl.load(SINKS + head).to(gl.float32) * LOG2E
            base = gl.maximum(top, sink)
            fade = gl.exp2(top - base)
            sums = gl.where(sees, sums * fade + gl.exp2(sink - base), 1.0)
            shrink = gl.where(sees, fade / sums, 0.0)
            top = base
        if HAS_STATS:
            gl.store(STATS + at, gl.where(sees, top + gl.log2(sums), float("inf")), mask=real)
        acc = warpgroup_mma_wait(0, deps=(out,))
        mbarrier.arrive(v_free.index((n - 1) % STAGES), count=1)
        out = gl.convert_layout((acc * _along(shrink, acc)).to(DTYPE), OUTPUT)
        row = half * HALF + gl.arange(0, HALF, gl.SliceLayout(1, OUTPUT))
        start = OUT + ((q_start + first).to(gl.int64) * heads + head) * D
        at_out = row[:, None] * (heads * D) + gl.arange(0, D, gl.SliceLayout(0, OUTPUT))[None, :]
        gl.store(start + at_out, out, mask=(first + row < lq)[:, None])
        turn += 1
        blocks, whole, first, head, lq, lk, q_start = _heard(messages, told, turn)


@gluon.jit(
    do_not_specialize=["total", "heads", "group", "programs"],
    do_not_specialize_on_alignment=["Q_OFFSETS", "K_OFFSETS", "SINKS", "COUNTER"],
)
def hopper_kernel(
    OUT, LSE, STATS, SINKS, Q_OFFSETS, K_OFFSETS, TILES, COUNTER, q_desc, k_desc, v_desc,
    total, heads, group, programs, factor,
    RIGHT: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, D: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Write what ``forward_kernel`` writes, for all tiles and heads; COUNTER is 0 at the start."""
    queries = gl.allocate_shared_memory(q_desc.dtype, [4, 1, 1, 1, BLOCK_M // 2, D], q_desc.layout)
    keys = gl.allocate_shared_memory(k_desc.dtype, [STAGES, 1, 1, 1, BLOCK_N, D], k_desc.layout)
    values = gl.allocate_shared_memory(v_desc.dtype, [STAGES, 1, 1, 1, BLOCK_N, D], v_desc.layout)
    messages = gl.allocate_shared_memory(gl.int32, [2, 8], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    told = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    go = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    q_ready = gl.allocate_shared_memory(gl.int64, [4, 1], mbarrier.MBarrierLayout())
    q_free = gl.allocate_shared_memory(gl.int64, [4, 1], mbarrier.MBarrierLayout())
    k_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for slot in gl.static_range(2):
        mbarrier.init(told.index(slot), count=1)
        mbarrier.init(go.index(slot), count=1)
    for slot in gl.static_range(4):
        mbarrier.init(q_ready.index(slot), count=1)
        mbarrier.init(q_free.index(slot), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_ready.index(stage), count=1)
        mbarrier.init(v_ready.index(stage), count=1)
        mbarrier.init(k_free.index(stage), count=2)
        mbarrier.init(v_free.index(stage), count=2)
    fence_async_shared()
    HAS_LSE: gl.constexpr = LSE is not None
    HAS_STATS: gl.constexpr = STATS is not None
    HAS_SINKS: gl.constexpr = SINKS is not None
    # A part is given no None: what isn't there is another array, which it doesn't touch.
    lse = LSE if HAS_LSE else OUT
    stats = STATS if HAS_STATS else OUT
    sinks = SINKS if HAS_SINKS else OUT
    gl.warp_specialize(
        [
            (_attend, (0, OUT, lse, stats, sinks, queries, keys, values, messages, told, q_ready, q_free, k_ready,
                       k_free, v_ready, v_free, go, total, heads, factor, RIGHT, HAS_LSE, HAS_STATS, HAS_SINKS, BLOCK_M,
                       BLOCK_N, D, STAGES)),
            (_attend, (1, OUT, lse, stats, sinks, queries, keys, values, messages, told, q_ready, q_free, k_ready,
                       k_free, v_ready, v_free, go, total, heads, factor, RIGHT, HAS_LSE, HAS_STATS, HAS_SINKS, BLOCK_M,
                       BLOCK_N, D, STAGES)),
            (_load, (q_desc, k_desc, v_desc, queries, keys, values, messages, told, q_ready, q_free, k_ready, k_free,
                     v_ready, v_free, Q_OFFSETS, K_OFFSETS, TILES, COUNTER, programs, heads, group, RIGHT, BLOCK_M,
                     BLOCK_N, D, STAGES)),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip
