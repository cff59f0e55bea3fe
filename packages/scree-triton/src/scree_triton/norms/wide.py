"""The same for rows that are too wide for the registers of one program: block by block, more than once.

Of what is read twice the second time comes from a cache, but for the sums over rows: they read all again.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from scree_triton.launch import Variant
from scree_triton.norms.normal import normal
from scree_triton.norms.sums import Sums
from scree_triton.norms.tiles import WIDE, WIDE_COLUMNS, wide_parts


@triton.jit(do_not_specialize=["rows", "eps"])
def wide_forward_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    statistics_ptr,
    rows: tl.int64,  # pyrefly: ignore[not-a-type]
    eps: tl.float32,  # pyrefly: ignore[not-a-type]
    X_STRIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    CENTRED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Normalise one row."""
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * X_STRIDE
    out_ptr += row * FEATURES
    mean = 0.0
    if CENTRED:
        total = tl.zeros((BLOCK,), tl.float32)
        for first in range(0, FEATURES, BLOCK):
            column = first + tl.arange(0, BLOCK)
            total += tl.load(x_ptr + column, mask=column < FEATURES, other=0.0).to(tl.float32)
        mean = tl.math.div_rn(tl.sum(total, 0), FEATURES * 1.0)
    squares = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, FEATURES, BLOCK):
        column = first + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + column, mask=column < FEATURES, other=0.0).to(tl.float32)
        x = tl.where(column < FEATURES, x - mean, 0.0)
        squares += x * x
    square = tl.math.div_rn(tl.sum(squares, 0), FEATURES * 1.0)
    std = tl.math.sqrt_rn(square + eps)
    for first in range(0, FEATURES, BLOCK):
        column = first + tl.arange(0, BLOCK)
        real = column < FEATURES
        out = normal(tl.load(x_ptr + column, mask=real, other=0.0).to(tl.float32) - mean, std, FEATURES)
        if weight_ptr is not None:
            out *= tl.load(weight_ptr + column, mask=real, other=0.0).to(tl.float32)
        if bias_ptr is not None:
            out += tl.load(bias_ptr + column, mask=real, other=0.0).to(tl.float32)
        tl.store(out_ptr + column, out.to(out_ptr.dtype.element_ty), mask=real)
    if statistics_ptr is not None:
        tl.store(statistics_ptr + row, std)
        if CENTRED:
            tl.store(statistics_ptr + rows + row, mean)


@triton.jit(do_not_specialize=["rows"])
def _rows_kernel(
    d_out_ptr,
    x_ptr,
    weight_ptr,
    statistics_ptr,
    d_x_ptr,
    rows: tl.int64,  # pyrefly: ignore[not-a-type]
    D_STRIDE: tl.constexpr,
    X_STRIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    CENTRED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute the gradient of one row."""
    row = tl.program_id(0).to(tl.int64)
    d_out_ptr += row * D_STRIDE
    x_ptr += row * X_STRIDE
    d_x_ptr += row * FEATURES
    std = tl.load(statistics_ptr + row)
    mean = 0.0
    if CENTRED:
        mean = tl.load(statistics_ptr + rows + row)
    total = tl.zeros((BLOCK,), tl.float32)
    along = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, FEATURES, BLOCK):
        column = first + tl.arange(0, BLOCK)
        d, n = _gradient_and_normal(d_out_ptr, x_ptr, weight_ptr, mean, std, column, FEATURES)
        total += d
        along += d * n
    along_mean = tl.math.div_rn(tl.sum(along, 0), FEATURES * 1.0)
    d_mean = 0.0
    if CENTRED:
        d_mean = tl.math.div_rn(tl.sum(total, 0), FEATURES * 1.0)
    for first in range(0, FEATURES, BLOCK):
        column = first + tl.arange(0, BLOCK)
        d, n = _gradient_and_normal(d_out_ptr, x_ptr, weight_ptr, mean, std, column, FEATURES)
        d_x = (d - d_mean - n * along_mean) * tl.math.div_rn(1.0, std)
        tl.store(d_x_ptr + column, d_x.to(d_x_ptr.dtype.element_ty), mask=column < FEATURES)


@triton.jit
def _gradient_and_normal(d_out_ptr, x_ptr, weight_ptr, mean, std, column, FEATURES: tl.constexpr):
    """Return a block of the gradient of the normalised row, and of the row; 0 behind its end."""
    real = column < FEATURES
    d = tl.load(d_out_ptr + column, mask=real, other=0.0).to(tl.float32)
    if weight_ptr is not None:
        d *= tl.load(weight_ptr + column, mask=real, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + column, mask=real, other=0.0).to(tl.float32)
    return d, tl.where(real, normal(x - mean, std, FEATURES), 0.0)


@triton.jit(do_not_specialize=["rows", "parts"])
def _columns_kernel(
    d_out_ptr,
    x_ptr,
    statistics_ptr,
    sums_ptr,
    rows: tl.int64,  # pyrefly: ignore[not-a-type]
    parts: tl.int32,  # pyrefly: ignore[not-a-type]
    D_STRIDE: tl.constexpr,
    X_STRIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    CENTRED: tl.constexpr,
    D_WEIGHT: tl.constexpr,
    D_BIAS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add up the gradients of a block of weight and bias over every ``parts``-th block of rows."""
    part = (tl.program_id(0) % parts).to(tl.int64)
    column = tl.program_id(0) // parts * BLOCK + tl.arange(0, BLOCK)
    real = column < FEATURES
    d_weight = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
    d_bias = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
    for first in tl.range(part * BLOCK_ROWS, rows, parts * BLOCK_ROWS, num_stages=2):
        row = first + tl.arange(0, BLOCK_ROWS)
        inside = (row < rows)[:, None] & real[None, :]
        d = tl.load(d_out_ptr + row[:, None] * D_STRIDE + column[None, :], mask=inside, other=0.0).to(tl.float32)
        d_bias += d
        if D_WEIGHT:
            x = tl.load(x_ptr + row[:, None] * X_STRIDE + column[None, :], mask=inside, other=0.0).to(tl.float32)
            if CENTRED:
                x -= tl.load(statistics_ptr + rows + row, mask=row < rows, other=0.0)[:, None]
            std = tl.load(statistics_ptr + row, mask=row < rows, other=1.0)[:, None]
            d_weight += d * normal(x, std, FEATURES)
    if D_WEIGHT:
        tl.store(sums_ptr + part * FEATURES + column, tl.sum(d_weight, 0), mask=real)
        sums_ptr += parts * FEATURES
    if D_BIAS:
        tl.store(sums_ptr + part * FEATURES + column, tl.sum(d_bias, 0), mask=real)


class WideBackward:
    """The kernels for arguments that Triton would specialise alike."""

    __slots__ = ("_blocks", "_most", "_of_columns", "_of_rows", "_sums", "_wanted")

    def __init__(self, constants: dict[str, Any], x: torch.Tensor, *, d_weight: bool, d_bias: bool) -> None:
        features = constants["FEATURES"]
        self._of_rows = Variant(_rows_kernel, {**constants, "BLOCK": WIDE.block}, WIDE.warps, 2)
        wanted = {"D_WEIGHT": d_weight, "D_BIAS": d_bias}
        constants = {**constants, **wanted, "BLOCK_ROWS": WIDE_COLUMNS.rows, "BLOCK": WIDE_COLUMNS.block}
        self._of_columns = Variant(_columns_kernel, constants, WIDE_COLUMNS.warps, 2)
        self._sums = Sums(features)
        self._wanted = d_weight + d_bias
        self._blocks = triton.cdiv(features, WIDE_COLUMNS.block)
        self._most = wide_parts(features, x.device)

    def __call__(
        self,
        d_out: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        statistics: torch.Tensor,
        d_x: torch.Tensor | None,
        d_weight: torch.Tensor | None,
        d_bias: torch.Tensor | None,
    ) -> None:
        """Fill the gradients that are given."""
        rows = statistics.shape[1]
        if d_x is not None:
            self._of_rows(rows, d_out, x, weight, statistics, d_x, rows)
        if self._wanted:
            parts = min(-(-rows // WIDE_COLUMNS.rows), self._most)
            sums = statistics.new_empty((self._wanted, parts, x.shape[-1]))
            self._of_columns(self._blocks * parts, d_out, x, statistics, sums, rows, parts)
            self._sums(sums, d_weight, d_bias)
