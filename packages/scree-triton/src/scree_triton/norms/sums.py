"""The gradients of weight and bias, from the sums that each of many programs found.

They are added up in the same order in every run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from scree_triton.launch import Variant

BLOCK_PARTS, BLOCK = 64, 32


@triton.jit(do_not_specialize=["parts"])
def _sum_kernel(
    sums_ptr,
    d_weight_ptr,
    d_bias_ptr,
    parts: tl.int32,  # pyrefly: ignore[not-a-type]
    FEATURES: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if d_weight_ptr is not None:
        _store_sum(sums_ptr, d_weight_ptr, parts, column, FEATURES, BLOCK_PARTS, BLOCK)
        sums_ptr += parts * FEATURES
    if d_bias_ptr is not None:
        _store_sum(sums_ptr, d_bias_ptr, parts, column, FEATURES, BLOCK_PARTS, BLOCK)


@triton.jit
def _store_sum(sums_ptr, to_ptr, parts, column, FEATURES: tl.constexpr, BLOCK_PARTS: tl.constexpr, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK_PARTS, BLOCK), tl.float32)
    for first in range(0, parts, BLOCK_PARTS):
        part = first + tl.arange(0, BLOCK_PARTS)
        inside = (part < parts)[:, None] & (column < FEATURES)[None, :]
        total += tl.load(sums_ptr + part[:, None] * FEATURES + column[None, :], mask=inside, other=0.0)
    tl.store(to_ptr + column, tl.sum(total, 0).to(to_ptr.dtype.element_ty), mask=column < FEATURES)


class Sums:
    """The kernel for one number of features and one dtype of each gradient."""

    __slots__ = ("_programs", "_variant")

    def __init__(self, features: int) -> None:
        constants = {"FEATURES": features, "BLOCK_PARTS": BLOCK_PARTS, "BLOCK": BLOCK}
        self._variant = Variant(_sum_kernel, constants, 4, 1)
        self._programs = triton.cdiv(features, BLOCK)

    def __call__(self, sums: torch.Tensor, d_weight: torch.Tensor | None, d_bias: torch.Tensor | None) -> None:
        """Add up ``sums``, ``(1 or 2, parts, features)``: first those of the weight, if it has a gradient."""
        self._variant(self._programs, sums, d_weight, d_bias, sums.shape[1])
