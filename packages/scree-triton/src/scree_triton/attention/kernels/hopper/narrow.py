"""From the sums that the backward kernel for Hopper adds up to dq."""

from __future__ import annotations

import triton
import triton.language as tl

from scree_triton.attention.kernels.tiles import lengths_of, place_in, row_of


@triton.jit(
    do_not_specialize=["padded", "heads"],
    do_not_specialize_on_alignment=["Q_OFFSETS", "K_OFFSETS"],
)
def narrow_kernel(
    SUMS, D_Q, Q_OFFSETS, K_OFFSETS, TILES, padded, heads, scale,
    D: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write dq for a tile of queries and a head. The order of SUMS is that of ``backward._add``."""
    program = tl.program_id(0)
    tile = tl.load(TILES + program // heads)
    if tile < 0:
        return
    row = row_of(tile)
    q_start, _, lq, _ = lengths_of(row, Q_OFFSETS, K_OFFSETS)
    head = (program % heads).to(tl.int64)
    HALF: tl.constexpr = D // 2
    place = tl.arange(0, BLOCK * HALF)
    for part in tl.static_range(TILE // BLOCK):
        first = place_in(tile) * TILE + part * BLOCK
        if first < lq:
            query = first + tl.arange(0, BLOCK)
            at_dq = ((q_start + query) * heads + head)[:, None] * D
            for half in tl.static_range(2):
                sums = tl.load(SUMS + (head * padded + q_start + row * BLOCK + first) * D + half * BLOCK * HALF + place)
                sums = sums.reshape(HALF // 8, BLOCK // 16, 8, 4, 2, 2).permute(1, 4, 2, 0, 3, 5).reshape(BLOCK, HALF)
                feature = half * HALF + tl.arange(0, HALF)
                dq = (sums * scale).to(D_Q.dtype.element_ty)
                tl.store(D_Q + at_dq + feature[None, :], dq, mask=(query < lq)[:, None])
