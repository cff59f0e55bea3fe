"""The normalised rows, and for backward their standard deviation and mean."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from scree_triton.alike import alike
from scree_triton.launch import Variant, on_device_of
from scree_triton.norms.normal import normal
from scree_triton.norms.tiles import WIDE, WIDEST, forward_tile
from scree_triton.norms.wide import wide_forward_kernel


@triton.jit(do_not_specialize=["rows", "eps"])
def _forward_kernel(
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
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (column < FEATURES)[None, :]
    x = tl.load(x_ptr + row[:, None] * X_STRIDE + column[None, :], mask=inside, other=0.0).to(tl.float32)
    # Loaded before the sums, which all warps wait for.
    if weight_ptr is not None:
        weight = tl.load(weight_ptr + column, mask=column < FEATURES, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + column, mask=column < FEATURES, other=0.0).to(tl.float32)
    if CENTRED:
        mean = tl.math.div_rn(tl.sum(x, 1), FEATURES * 1.0)  # (BLOCK_ROWS,)
        x = tl.where(column[None, :] < FEATURES, x - mean[:, None], 0.0)
    square = tl.math.div_rn(tl.sum(x * x, 1), FEATURES * 1.0)
    std = tl.math.sqrt_rn(square + eps)  # (BLOCK_ROWS,)
    out = normal(x, std[:, None], FEATURES)  # (BLOCK_ROWS, BLOCK)
    if weight_ptr is not None:
        out *= weight[None, :]  # pyrefly: ignore[unbound-name]
    if bias_ptr is not None:
        out += bias[None, :]  # pyrefly: ignore[unbound-name]
    to = out_ptr + row[:, None] * FEATURES + column[None, :]
    tl.store(to, out.to(out_ptr.dtype.element_ty), mask=inside)
    if statistics_ptr is not None:
        tl.store(statistics_ptr + row, std, mask=row < rows)
        if CENTRED:
            tl.store(statistics_ptr + rows + row, mean, mask=row < rows)  # pyrefly: ignore[unbound-name]


def normalised(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
    *,
    centred: bool,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Normalise rows.

    Parameters
    ----------
    x : torch.Tensor of shape (..., features)
        Elements, at least one.
    weight, bias : torch.Tensor of shape (features,), or None
        Scale and shift.
    eps : float
        Added to the variance.
    centred : bool
        Whether to subtract the mean.
    keep : bool
        Whether to return the statistics.

    Returns
    -------
    out : torch.Tensor, shape and dtype of x
        Contiguous.
    statistics : torch.Tensor of float32 of shape (1 or 2, rows), or None
        The standard deviation of each row, and its mean if centred.
    """
    features = x.shape[-1]
    rows = x.numel() // features
    flat, stride = as_rows(x)
    weight, bias = contiguous(weight), contiguous(bias)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    statistics = torch.empty((1 + centred, rows), dtype=torch.float32, device=x.device) if keep else None
    arrays = flat, weight, bias, out, statistics
    key = features, stride, centred, x.device, *map(alike, arrays)
    variant, per_program = _variants.get(key) or _variants.setdefault(key, _variant(features, stride, centred))
    with on_device_of(x):
        variant(-(-rows // per_program), *arrays, rows, eps)
    return out, statistics


_variants: dict[object, tuple[Variant, int]] = {}


def _variant(features: int, stride: int, centred: bool) -> tuple[Variant, int]:
    """Return the kernel to launch, and the number of rows of each program."""
    constants = {"X_STRIDE": stride, "FEATURES": features, "CENTRED": centred}
    if features > WIDEST:
        return Variant(wide_forward_kernel, {**constants, "BLOCK": WIDE.block}, WIDE.warps, 2), 1
    tile = forward_tile(features)
    constants |= {"BLOCK_ROWS": tile.rows, "BLOCK": tile.block}
    return Variant(_forward_kernel, constants, tile.warps, 1), tile.rows


def as_rows(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return ``x``, a view or else a copy of it, in which features are neighbours, and the step between rows."""
    if x.is_contiguous():
        return x, x.shape[-1]
    flat = x.reshape(-1, x.shape[-1])
    if flat.stride(1) != 1:
        return flat.contiguous(), x.shape[-1]
    return flat, flat.stride(0)


def contiguous(x: torch.Tensor | None) -> torch.Tensor | None:
    """Return ``x`` in one piece, if there is one."""
    return None if x is None else x.contiguous()
