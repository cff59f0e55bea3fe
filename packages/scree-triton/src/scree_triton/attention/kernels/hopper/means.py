"""What the backward kernel for Hopper finds done: the mean of each query's ``dP``, and sums of dq at zero."""

from __future__ import annotations

import triton
import triton.language as tl

from scree_triton.attention.kernels.scores import LOG2E


@triton.jit(
    do_not_specialize=["stride_lt", "stride_lh", "batch", "total", "padded", "heads"],
    do_not_specialize_on_alignment=["OFFSETS", "LSE", "STATS", "SINKS"],
)
def means_kernel(
    OUT, D_OUT, D_LSE, LSE, STATS, SINKS, DELTA, D_SINKS, SUMS, OFFSETS,
    stride_dt, stride_dh, stride_dd, stride_lt, stride_lh, batch, total, padded, heads,
    D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write what ``queries_kernel`` writes beside dq, for a block of elements and a head, and clear as much of SUMS."""
    program = tl.program_id(0)
    head = (program % heads).to(tl.int64)
    first = program // heads * BLOCK
    element, feature = first + tl.arange(0, BLOCK), tl.arange(0, D)
    at = (head * padded + element)[:, None] * D + feature[None, :]
    tl.store(SUMS + at, tl.zeros([BLOCK, D], tl.float32), mask=(element < padded)[:, None])
    if first >= total:
        return
    # Elements behind the last row are nobody's: what they are may be anything, but no share of a sink.
    real, own = element < total, element < tl.load(OFFSETS + batch)
    at = element.to(tl.int64)
    out = tl.load(OUT + (at * heads + head)[:, None] * D + feature[None, :], mask=real[:, None], other=0.0)
    at_d = (at * stride_dt + head * stride_dh)[:, None] + feature[None, :] * stride_dd
    d_out = tl.load(D_OUT + at_d, mask=real[:, None], other=0.0)
    delta = tl.sum(out.to(tl.float32) * d_out.to(tl.float32), 1)
    at_head = head * total + element
    top = tl.load(STATS + at_head, mask=real, other=float("inf"))
    sees = top < float("inf")
    if SINKS is not None:
        sink = tl.exp2(tl.load(SINKS + head).to(tl.float32) * LOG2E - top)
        tl.store(D_SINKS + at_head, tl.where(own, -sink * delta, 0.0), mask=real)
    if D_LSE is not None:
        d_lse = tl.load(D_LSE + at * stride_lt + head * stride_lh, mask=real, other=0.0).to(tl.float32)
        if SINKS is not None:  # the weights without the sink are that much larger
            lse = tl.load(LSE + at_head, mask=real, other=0.0) * LOG2E
            d_lse = d_lse * tl.math.exp2(top - lse)
        delta -= tl.where(sees, d_lse, 0.0)
    tl.store(DELTA + at_head, tl.where(sees, delta, 0.0), mask=real)
