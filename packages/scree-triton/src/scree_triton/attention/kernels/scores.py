"""Scores in base 2, which of them a query sees, and loads that stay inside a row: what all kernels share.

A score in base 2 is ``scale * log2(e) * dot(q, k)``, capped; ``exp2`` of it is the exponential of the score, in one
instruction. Kernels are given a scale above zero: a negative one turns the sign of q instead, and zero makes it zero.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_tile(base, first, count, features, stride, feature_stride, MASKED: tl.constexpr, SIZE: tl.constexpr,
              BLOCK: tl.constexpr, WIDTH: tl.constexpr, UPCAST: tl.constexpr):  # fmt: skip
    """Load elements ``first`` to ``first + BLOCK`` of a row, ``(BLOCK, WIDTH)``; zeros from ``count`` and SIZE on.

    The distance to the first is the only one that can be large, so only that is computed in 64 bits.
    """
    element = tl.arange(0, BLOCK)
    start = base + (tl.zeros([], tl.int64) + first) * stride
    at = start + element[:, None] * stride + features[None, :] * feature_stride
    if MASKED:
        inside = (first + element < count)[:, None]
        if SIZE != WIDTH:
            inside = inside & (features < SIZE)[None, :]
        x = tl.load(at, mask=inside, other=0.0)
    elif SIZE != WIDTH:
        x = tl.load(at, mask=(features < SIZE)[None, :], other=0.0)
    else:
        x = tl.load(at)
    if UPCAST:  # Triton's interpreter computes bfloat16 wrongly
        x = x.to(tl.float32)
    return x


@triton.jit
def signed(q, SIGN: tl.constexpr):
    """Return q times -1, 0 or 1."""
    if SIGN < 0:
        q = -q
    elif SIGN == 0:
        q = q * 0
    return q


@triton.jit
def squashed(x, EXACT: tl.constexpr):
    """Return ``tanh(x)``; with EXACT to float32's precision near 0, where the closed form cancels."""
    t = 1 - 2 / (tl.math.exp2(x * (2 * LOG2E)) + 1)
    if EXACT:
        y = x * x
        series = x * (1 + y * (-0.3333333333 + y * (0.1333333333 + y * (-0.0539682540 + y * 0.0218694885))))
        t = tl.where(tl.abs(x) < 0.25, series, t)
    return t


@triton.jit
def key_range(query, lq, lk, left, right, LEFT: tl.constexpr, RIGHT: tl.constexpr):
    """Return the first key that each query sees, and one past the last; rows are aligned at their ends."""
    at = query + (lk - lq)
    first = tl.maximum(at - left, 0) if LEFT else tl.zeros_like(at)
    stop = tl.minimum(at + right + 1, lk) if RIGHT else tl.zeros_like(at) + lk
    return first, stop


@triton.jit
def blocks_of_keys(first, last, lq, lk, left, right, BLOCK: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr):
    """Return where blocks of keys start that a tile of queries goes through.

    Four bounds, multiples of BLOCK but for the last: to the second, blocks are cut by the window's left side; to the
    third, every query sees all of them; to the fourth, they are cut on the right or by the end of the row.
    """
    shift = lk - lq
    stop = tl.minimum(last + shift + right + 1, lk) if RIGHT else lk
    whole_stop = tl.minimum(first + shift + right + 1, lk) if RIGHT else lk
    whole_stop = tl.maximum(whole_stop, 0) // BLOCK * BLOCK
    if LEFT:
        start = tl.maximum(first + shift - left, 0) // BLOCK * BLOCK
        whole_start = (tl.maximum(last + shift - left, 0) + BLOCK - 1) // BLOCK * BLOCK
    else:
        start = lk * 0
        whole_start = start
    return start, whole_start, whole_stop, stop


@triton.jit
def blocks_of_queries(first, last, lq, lk, left, right, BLOCK: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr):
    """Return where the blocks of queries start and stop that see any key of a tile."""
    shift = lk - lq
    start = tl.maximum(first - right - shift, 0) // BLOCK * BLOCK if RIGHT else lq * 0
    stop = tl.minimum(last + left - shift + 1, lq) if LEFT else lq
    return start, stop


@triton.jit
def weights(s, top, shrink, factor, softcap, SOFTCAP: tl.constexpr, EXACT: tl.constexpr):
    """Return the weights again, from products and what forward left of the denominators, and the slope of the cap."""
    slope = 1.0
    if SOFTCAP:
        t = squashed(s * factor / softcap, EXACT)
        slope = 1 - t * t
        s = t * softcap
        factor = 1.0
    p = tl.math.exp2(s * factor - top)
    if EXACT:
        p = p * shrink
    return p, slope
