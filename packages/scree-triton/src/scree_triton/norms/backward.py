"""The gradients of normalised rows.

A fixed number of programs goes over the rows and adds up the gradients of weight and bias in registers, another
kernel adds up what the programs found: in the same order in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from scree_triton.alike import alike
from scree_triton.launch import Variant, on_device_of
from scree_triton.norms.forward import as_rows, contiguous
from scree_triton.norms.normal import normal
from scree_triton.norms.sums import Sums
from scree_triton.norms.tiles import WIDEST, backward_programs, backward_stages, backward_tile
from scree_triton.norms.wide import WideBackward


@triton.jit(do_not_specialize=["rows"])
def _backward_kernel(
    d_out_ptr,
    x_ptr,
    weight_ptr,
    statistics_ptr,
    d_x_ptr,
    sums_ptr,
    rows: tl.int64,  # pyrefly: ignore[not-a-type]
    D_STRIDE: tl.constexpr,
    X_STRIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    CENTRED: tl.constexpr,
    D_WEIGHT: tl.constexpr,
    D_BIAS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    real = column < FEATURES
    d_weight = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
    d_bias = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
    if weight_ptr is not None:
        weight = tl.load(weight_ptr + column, mask=real, other=0.0).to(tl.float32)
    for first in tl.range(program * BLOCK_ROWS, rows, tl.num_programs(0) * BLOCK_ROWS, num_stages=STAGES):
        row = first + tl.arange(0, BLOCK_ROWS)
        inside = (row < rows)[:, None] & real[None, :]
        x = tl.load(x_ptr + row[:, None] * X_STRIDE + column[None, :], mask=inside, other=0.0).to(tl.float32)
        d = tl.load(d_out_ptr + row[:, None] * D_STRIDE + column[None, :], mask=inside, other=0.0).to(tl.float32)
        std = tl.load(statistics_ptr + row, mask=row < rows, other=1.0)[:, None]
        if CENTRED:
            mean = tl.load(statistics_ptr + rows + row, mask=row < rows, other=0.0)[:, None]
            x = tl.where(real[None, :], x - mean, 0.0)
        n = normal(x, std, FEATURES)  # (BLOCK_ROWS, BLOCK)
        if D_WEIGHT:
            d_weight += d * n
        if D_BIAS:
            d_bias += d
        if d_x_ptr is not None:
            if weight_ptr is not None:
                d *= weight[None, :]  # pyrefly: ignore[unbound-name]
            if CENTRED and FEATURES == 1:
                d -= d  # what is left of it, exactly: the compiler would fuse the product above with its mean
            along = tl.math.div_rn(tl.sum(d * n, 1), FEATURES * 1.0)[:, None]
            if CENTRED:
                d -= tl.math.div_rn(tl.sum(d, 1), FEATURES * 1.0)[:, None]
            d_x = (d - n * along) * tl.math.div_rn(1.0, std)
            to = d_x_ptr + row[:, None] * FEATURES + column[None, :]
            tl.store(to, d_x.to(d_x_ptr.dtype.element_ty), mask=inside)
    if D_WEIGHT:
        tl.store(sums_ptr + program * FEATURES + column, tl.sum(d_weight, 0), mask=real)
    if D_BIAS:
        sums_ptr += tl.num_programs(0) * FEATURES * D_WEIGHT
        tl.store(sums_ptr + program * FEATURES + column, tl.sum(d_bias, 0), mask=real)


def gradients(
    d_out: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    statistics: torch.Tensor,
    wanted: Sequence[bool],
    *,
    centred: bool,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Compute gradients.

    Parameters
    ----------
    d_out : torch.Tensor of shape (..., features)
        Gradient of the output.
    x, weight, bias
        As given to ``normalised``.
    statistics : torch.Tensor of float32 of shape (1 or 2, rows)
        As ``normalised`` returned them.
    wanted : sequence of bool
        Whether the gradients of x, weight and bias are.
    centred : bool
        Whether the mean was subtracted.

    Returns
    -------
    d_x, d_weight, d_bias : torch.Tensor, or None
        Each in the dtype of its input; None where it isn't wanted.

    Notes
    -----
    Needs memory for up to two float32 rows for each of a few hundred programs. No sync.
    """
    features = x.shape[-1]
    d_x = torch.empty_like(x, memory_format=torch.contiguous_format) if wanted[0] else None
    d_weight, d_bias = (
        torch.empty_like(t, memory_format=torch.contiguous_format) if t is not None and is_wanted else None
        for t, is_wanted in zip((weight, bias), wanted[1:], strict=True)
    )
    d_flat, d_stride = as_rows(d_out)
    x_flat, x_stride = as_rows(x)
    arrays = d_flat, x_flat, contiguous(weight), statistics, d_x, d_weight, d_bias
    key = features, d_stride, x_stride, centred, x.device, *map(alike, arrays)
    kernels = _kernels.get(key)
    if kernels is None:
        constants = {"D_STRIDE": d_stride, "X_STRIDE": x_stride, "FEATURES": features, "CENTRED": centred}
        wide_or_not = WideBackward if features > WIDEST else _Backward
        kernels = _kernels[key] = wide_or_not(constants, x, d_weight=d_weight is not None, d_bias=d_bias is not None)
    with on_device_of(x):
        kernels(*arrays)
    return d_x, d_weight, d_bias


class _Backward:
    """The kernels for arguments that Triton would specialise alike."""

    __slots__ = ("_most", "_per_program", "_sums", "_variant", "_wanted")

    def __init__(self, constants: dict[str, Any], x: torch.Tensor, *, d_weight: bool, d_bias: bool) -> None:
        features = constants["FEATURES"]
        tile = backward_tile(features)
        stages = backward_stages(tile, x.element_size(), x.device)
        constants |= {"D_WEIGHT": d_weight, "D_BIAS": d_bias}
        constants |= {"BLOCK_ROWS": tile.rows, "BLOCK": tile.block, "STAGES": stages}
        self._variant = Variant(_backward_kernel, constants, tile.warps, stages)
        self._sums = Sums(features)
        self._wanted = d_weight + d_bias
        self._per_program = tile.rows
        self._most = backward_programs(tile, x.device)

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
        rows = statistics.shape[1]
        programs = min(-(-rows // self._per_program), self._most)
        sums = statistics.new_empty((self._wanted, programs, x.shape[-1])) if self._wanted else None
        self._variant(programs, d_out, x, weight, statistics, d_x, sums, rows)
        if sums is not None:
            self._sums(sums, d_weight, d_bias)


_kernels: dict[object, _Backward | WideBackward] = {}
