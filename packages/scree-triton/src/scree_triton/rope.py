"""Rotary position embedding, whose gradient is the rotation back: a program turns a few heads of a few elements."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from scree_core.layout import Layout
from scree_torch.backend import TorchBackend
from scree_triton.alike import alike
from scree_triton.launch import Variant, on_device_of

TILE = 2048
"""Features that a program turns."""

_torch = TorchBackend()


def varlen_rope(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor | None,
    layout: Layout[torch.Tensor],
    *,
    interleaved: bool,
) -> torch.Tensor:
    """Rotate pairs of the last axis of x by the angles at each element's position.

    Parameters
    ----------
    x : torch.Tensor of shape (total, ..., head_dim)
        Elements in float16, bfloat16 or float32.
    cos, sin : torch.Tensor of shape (max_position, r)
        Tables, in any of these dtypes.
    positions : torch.Tensor of int of shape (total,), or None
        Position of each element; None for its index within its row.
    layout : Layout
        Row boundaries.
    interleaved : bool
        Whether neighbours are a pair, or halves are.

    Returns
    -------
    torch.Tensor, shape and dtype of x
        Computed in float32; NaN where a position lies beyond the tables.

    Notes
    -----
    For backward it keeps its inputs but x. Tables that need gradients are left to PyTorch. No sync.
    """
    if torch.is_grad_enabled() and (cos.requires_grad or sin.requires_grad):
        return _torch.varlen_rope(x, cos, sin, layout, positions, interleaved=interleaved)
    if positions is None:
        positions = _torch.positions(layout, x.shape[0])
    if torch.is_grad_enabled() and x.requires_grad:
        return _Rotate.apply(x, cos, sin, positions, interleaved, False)
    return _rotated(x, cos, sin, positions, interleaved, False)


class _Rotate(torch.autograd.Function):
    # Forward takes the context itself: setup_context costs 10 us in every call.
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        positions: torch.Tensor,
        interleaved: bool,
        back: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(cos, sin, positions)
        ctx.interleaved, ctx.back = interleaved, back
        ctx.set_materialize_grads(False)
        return _rotated(x, cos, sin, positions, interleaved, back)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> Any:
        (d_out,) = cotangents
        if d_out is None:
            return None, None, None, None, None, None
        cos, sin, positions = ctx.saved_tensors
        rotate = _Rotate.apply if torch.is_grad_enabled() else _rotated
        return rotate(d_out, cos, sin, positions, ctx.interleaved, not ctx.back), None, None, None, None, None


@triton.jit(do_not_specialize=["rows", "max_position"])
def _rotate_kernel(
    x_ptr,
    cos_ptr,
    sin_ptr,
    positions_ptr,
    out_ptr,
    rows: tl.int64,  # pyrefly: ignore[not-a-type]
    max_position: tl.int64,  # pyrefly: ignore[not-a-type]
    X_STRIDE: tl.constexpr,
    X_HEAD_STRIDE: tl.constexpr,
    COS_STRIDE: tl.constexpr,
    SIN_STRIDE: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    BACK: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,
    BLOCK_REST: tl.constexpr,
):
    # A row is one head of one element.
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    real = (row < rows)[:, None]  # (BLOCK_ROWS, 1)
    element = row // HEADS
    x_ptr += (element * X_STRIDE + row % HEADS * X_HEAD_STRIDE)[:, None]
    out_ptr += (row * HEAD_DIM)[:, None]
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    if PAIRS > 0:
        position = tl.load(positions_ptr + element, mask=row < rows, other=0).to(tl.int64)[:, None]
        pair = tl.arange(0, BLOCK_PAIRS)[None, :]
        known = real & (position >= 0) & (position < max_position) & (pair < PAIRS)  # (BLOCK_ROWS, BLOCK_PAIRS)
        cos = tl.load(cos_ptr + position * COS_STRIDE + pair, mask=known, other=float("nan")).to(tl.float32)
        sin = tl.load(sin_ptr + position * SIN_STRIDE + pair, mask=known, other=float("nan")).to(tl.float32)
        if BACK:
            sin = -sin
        if INTERLEAVED:
            feature = tl.arange(0, 2 * BLOCK_PAIRS)[None, :]
            inside = real & (feature < 2 * PAIRS)
            x = tl.load(x_ptr + feature, mask=inside, other=0.0).to(tl.float32)
            x1, x2 = tl.split(tl.reshape(x, (BLOCK_ROWS, BLOCK_PAIRS, 2)))
            y = tl.join(x1 * cos - x2 * sin, x2 * cos + x1 * sin)
            tl.store(out_ptr + feature, tl.reshape(y, (BLOCK_ROWS, 2 * BLOCK_PAIRS)).to(dtype), mask=inside)
        else:
            inside = real & (pair < PAIRS)
            x1 = tl.load(x_ptr + pair, mask=inside, other=0.0).to(tl.float32)
            x2 = tl.load(x_ptr + PAIRS + pair, mask=inside, other=0.0).to(tl.float32)
            tl.store(out_ptr + pair, (x1 * cos - x2 * sin).to(dtype), mask=inside)
            tl.store(out_ptr + PAIRS + pair, (x2 * cos + x1 * sin).to(dtype), mask=inside)
    if BLOCK_REST > 0:
        rest = 2 * PAIRS + tl.arange(0, BLOCK_REST)[None, :]
        inside = real & (rest < HEAD_DIM)
        tl.store(out_ptr + rest, tl.load(x_ptr + rest, mask=inside), mask=inside)


def _rotated(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions: torch.Tensor, interleaved: bool, back: bool
) -> torch.Tensor:
    """Return x with its pairs rotated, or rotated back."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    if not x.numel():
        return out
    head_dim, pairs = x.shape[-1], cos.shape[1]
    rows = x.numel() // head_dim
    heads = rows // x.shape[0]
    flat, stride, head_stride = _heads_of(x)
    cos, sin = _table(cos), _table(sin)
    positions = (positions if positions.dtype in _INDICES else positions.to(torch.int64)).contiguous()
    shape = stride, head_stride, cos.stride(0), sin.stride(0), heads, head_dim, pairs, interleaved, back
    arrays = flat, cos, sin, positions, out
    key = *shape, x.device, *map(alike, arrays)
    found = _variants.get(key)
    if found is None:
        found = _variants[key] = _variant(*shape)
    variant, per_program = found
    with on_device_of(x):
        variant(-(-rows // per_program), *arrays, rows, cos.shape[0])
    return out


_INDICES = (torch.int32, torch.int64)
_variants: dict[object, tuple[Variant, int]] = {}


def _variant(*shape: Any) -> tuple[Variant, int]:
    """Return the kernel to launch, and the number of rows of each program."""
    names = list(_rotate_kernel.arg_names)
    first = names.index("X_STRIDE")
    constants = dict(zip(names[first:], shape, strict=False))
    rest = constants["HEAD_DIM"] - 2 * constants["PAIRS"]
    constants["BLOCK_PAIRS"] = triton.next_power_of_2(max(1, constants["PAIRS"]))
    constants["BLOCK_REST"] = triton.next_power_of_2(rest) if rest else 0
    constants["BLOCK_ROWS"] = max(1, TILE // max(2 * constants["BLOCK_PAIRS"], constants["BLOCK_REST"]))
    return Variant(_rotate_kernel, constants, 4, 1), constants["BLOCK_ROWS"]


def _heads_of(x: torch.Tensor) -> tuple[torch.Tensor, int, int]:
    """Return ``x``, a view or else a copy of it, in which features are neighbours, and the steps of elements and heads.

    Elements lie in order there: kernels are compiled for these steps, so none may grow with the number of elements.
    """
    head_dim = x.shape[-1]
    if x.is_contiguous():
        return x, x.numel() // x.shape[0], head_dim
    flat = x.reshape(x.shape[0], -1, head_dim)
    stride, head_stride, feature_stride = flat.stride()
    heads = flat.shape[1]
    if (head_dim > 1 and feature_stride != 1) or (heads > 1 and stride < heads * head_stride):
        flat = flat.contiguous()
        stride, head_stride, _ = flat.stride()
    return flat, stride, head_stride if heads > 1 else head_dim


def _table(table: torch.Tensor) -> torch.Tensor:
    return table if table.stride(1) == 1 else table.contiguous()
