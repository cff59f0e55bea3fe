"""The kernel that maps programs to tiles, and how to read the map."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def row_of(tile):
    """Return the row of a tile."""
    return (tile >> 32).to(tl.int32)


@triton.jit
def place_in(tile):
    """Return which of its row's tiles it is."""
    return (tile & 0xFFFFFFFF).to(tl.int32)


@triton.jit
def lengths_of(row, Q_OFFSETS, K_OFFSETS):
    """Return where a row's queries and keys start, in 64 bits, and how many there are."""
    q_start = tl.load(Q_OFFSETS + row).to(tl.int64)
    k_start = tl.load(K_OFFSETS + row).to(tl.int64)
    lq = (tl.load(Q_OFFSETS + row + 1) - q_start).to(tl.int32)
    lk = (tl.load(K_OFFSETS + row + 1) - k_start).to(tl.int32)
    return q_start, k_start, lq, lk


@triton.jit
def queries_of(j, program, heads, lq, BLOCK: tl.constexpr, GROUP: tl.constexpr):
    """Return the first query of a program, whose tile is the j-th of its row in the map, and its head.

    All programs of a row and a head of its keys come behind each other, so that these stay in the cache: the tiles
    from the last, which a causal row has most work for, and of each tile the heads of the group.
    """
    count = (lq + BLOCK - 1) // BLOCK
    place = program - (program // heads - j) * heads
    first = (count - 1 - (place % (count * GROUP)) // GROUP) * BLOCK
    return first, place // (count * GROUP) * GROUP + place % GROUP


@triton.jit(
    do_not_specialize=["batch", "capacity"],
    do_not_specialize_on_alignment=["OFFSETS", "OTHERS", "BEFORE"],
)
def tiles_kernel(
    OFFSETS,
    OTHERS,
    BEFORE,
    TILES,
    batch,
    capacity,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    SORTED: tl.constexpr,
):
    """Write the tiles of a row behind those of all rows that have more to do.

    A tile of a row costs as much as the row of the other side is long. Ties go by number.
    """
    row = tl.program_id(0)
    count = (tl.load(OFFSETS + row + 1) - tl.load(OFFSETS + row) + BLOCK - 1) // BLOCK
    count = count.to(tl.int32)
    if SORTED:
        before = tl.load(BEFORE + row).to(tl.int32)
        every = tl.load(BEFORE + batch).to(tl.int32)
    else:
        cost = tl.load(OTHERS + row + 1) - tl.load(OTHERS + row)
        before = tl.zeros([], tl.int32)
        every = tl.zeros([], tl.int32)
        for first in range(0, batch, ROWS):
            rows = first + tl.arange(0, ROWS)
            real = rows < batch
            length = tl.load(OFFSETS + rows + 1, mask=real, other=0) - tl.load(OFFSETS + rows, mask=real, other=0)
            costs = tl.load(OTHERS + rows + 1, mask=real, other=0) - tl.load(OTHERS + rows, mask=real, other=0)
            counts = ((length + BLOCK - 1) // BLOCK).to(tl.int32)
            earlier = (costs > cost) | ((costs == cost) & (rows < row))
            before += tl.sum(tl.where(earlier, counts, 0), 0)
            every += tl.sum(counts, 0)
    lanes = tl.arange(0, 128)
    for first in range(0, count, 128):
        at = first + lanes
        tl.store(TILES + before + at, (row.to(tl.int64) << 32) + at, mask=at < count)
    if row == 0:
        for first in range(every, capacity, 128):
            at = first + lanes
            tl.store(TILES + at, tl.full([128], -1, tl.int64), mask=at < capacity)
