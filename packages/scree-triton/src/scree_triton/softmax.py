"""Softmax of rows: a program has one long row or a few short ones, and some of their features.

Rows that fit in a tile are read once; longer ones twice, first for their tops and sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from scree_core.layout import Layout
from scree_torch import reductions
from scree_torch.segments import Segments, positions, segment_ids, segments
from scree_triton.alike import alike
from scree_triton.columns import columns
from scree_triton.launch import Variant, on_device_of
from scree_triton.power_of_2 import power_of_2

SMALL, LARGE = 2048, 4096
"""Elements of tiles with 4 and with 8 warps."""
NEIGHBOURS = 32
"""Features of a tile: what memory hands over at once."""
MANY = 512
"""Programs that keep a GPU busy."""


def varlen_softmax(x: torch.Tensor, layout: Layout[torch.Tensor]) -> torch.Tensor:
    """Return ``exp(x - top) / sum(exp(x - top))`` over each row, for each feature by itself.

    Parameters
    ----------
    x : torch.Tensor of shape (total, *features)
        Logits in float16, bfloat16 or float32.
    layout : Layout
        Row boundaries.

    Returns
    -------
    torch.Tensor, shape and dtype of x
        Zeros where all of a row is -inf, NaN where one is +inf, anything in a tail. Computed in float32.

    Notes
    -----
    For backward it keeps its output. No sync. Few rows of very many elements leave a GPU idle: no row is shared by
    several programs.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return _Softmax.apply(x, layout)
    return _forward(x, layout)


class _Softmax(torch.autograd.Function):
    # Forward takes the context itself: setup_context costs 10 us in every call.
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layout: Layout[torch.Tensor]) -> torch.Tensor:
        out = _forward(x, layout)
        ctx.save_for_backward(out)
        ctx.layout = layout
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> Any:
        (d_out,) = cotangents
        if d_out is None:
            return None, None
        (out,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # someone wants gradients of this gradient
            return _differentiable(out, d_out, ctx.layout), None
        return _backward(out, d_out, ctx.layout), None


def _differentiable(out: torch.Tensor, d_out: torch.Tensor, layout: Layout[torch.Tensor]) -> torch.Tensor:
    """Return the gradient, computed by operations that have gradients themselves."""
    y, d, cut = reductions.widened(out), reductions.widened(d_out), _segments(layout, out.shape[0])
    d_x = y * (d - reductions.repeat_rows(reductions.row_sum(y * d, cut), cut))
    return reductions.narrowed(d_x, out.dtype)


def _segments(layout: Layout[torch.Tensor], total: int) -> Segments:
    ids = segment_ids(layout.offsets, total)
    at = positions(layout.offsets, ids, tail=layout.tail)
    return segments(layout.offsets, ids, at, layout.max_length, tail=layout.tail)


@triton.jit(do_not_specialize=["batch"])
def _forward_kernel(
    x_ptr,
    offsets_ptr,
    out_ptr,
    batch: tl.int64,  # pyrefly: ignore[not-a-type]
    X_STRIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    start, length, at, feature = _tile(offsets_ptr, batch, FEATURES, BLOCK_ROWS, BLOCK_LENGTH, BLOCK)
    x_ptr += start * X_STRIDE + feature  # (BLOCK_ROWS, 1, BLOCK)
    out_ptr += start * FEATURES + feature
    longest = tl.max(tl.max(tl.max(length, 2), 1), 0)
    if longest <= BLOCK_LENGTH:
        inside = (at < length) & (feature < FEATURES)  # (BLOCK_ROWS, BLOCK_LENGTH, BLOCK)
        x = tl.load(x_ptr + at * X_STRIDE, mask=inside, other=float("-inf")).to(tl.float32)
        top = tl.max(x, 1)  # (BLOCK_ROWS, BLOCK)
        exps = tl.exp(x - _finite(top)[:, None, :])
        out = exps * _one_over(tl.sum(exps, 1), top)[:, None, :]
        tl.store(out_ptr + at * FEATURES, out.to(out_ptr.dtype.element_ty), mask=inside)
    else:
        top = tl.full((BLOCK_ROWS, BLOCK), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
        for first in range(0, longest, BLOCK_LENGTH):  # pyrefly: ignore[bad-argument-type]
            inside = (first + at < length) & (feature < FEATURES)
            x = tl.load(x_ptr + (first + at) * X_STRIDE, mask=inside, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(x, 1))
            exps = tl.exp(x - _finite(higher)[:, None, :])
            total = total * tl.exp(top - _finite(higher)) + tl.sum(exps, 1)
            top = higher
        shift = _finite(top)[:, None, :]
        share = _one_over(total, top)[:, None, :]
        for first in range(0, longest, BLOCK_LENGTH):  # pyrefly: ignore[bad-argument-type]
            inside = (first + at < length) & (feature < FEATURES)
            x = tl.load(x_ptr + (first + at) * X_STRIDE, mask=inside, other=float("-inf")).to(tl.float32)
            out = tl.exp(x - shift) * share
            tl.store(out_ptr + (first + at) * FEATURES, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["batch"])
def _backward_kernel(
    out_ptr,
    d_out_ptr,
    offsets_ptr,
    d_x_ptr,
    batch: tl.int64,  # pyrefly: ignore[not-a-type]
    D_STRIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    start, length, at, feature = _tile(offsets_ptr, batch, FEATURES, BLOCK_ROWS, BLOCK_LENGTH, BLOCK)
    out_ptr += start * FEATURES + feature  # (BLOCK_ROWS, 1, BLOCK)
    d_out_ptr += start * D_STRIDE + feature
    d_x_ptr += start * FEATURES + feature
    longest = tl.max(tl.max(tl.max(length, 2), 1), 0)
    if longest <= BLOCK_LENGTH:
        inside = (at < length) & (feature < FEATURES)  # (BLOCK_ROWS, BLOCK_LENGTH, BLOCK)
        y = tl.load(out_ptr + at * FEATURES, mask=inside, other=0.0).to(tl.float32)
        d = tl.load(d_out_ptr + at * D_STRIDE, mask=inside, other=0.0).to(tl.float32)
        d_x = y * (d - tl.sum(y * d, 1)[:, None, :])  # pyrefly: ignore[bad-index]
        tl.store(d_x_ptr + at * FEATURES, d_x.to(d_x_ptr.dtype.element_ty), mask=inside)
    else:
        along = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
        for first in range(0, longest, BLOCK_LENGTH):  # pyrefly: ignore[bad-argument-type]
            inside = (first + at < length) & (feature < FEATURES)
            y = tl.load(out_ptr + (first + at) * FEATURES, mask=inside, other=0.0).to(tl.float32)
            d = tl.load(d_out_ptr + (first + at) * D_STRIDE, mask=inside, other=0.0).to(tl.float32)
            along += tl.sum(y * d, 1)
        for first in range(0, longest, BLOCK_LENGTH):  # pyrefly: ignore[bad-argument-type]
            inside = (first + at < length) & (feature < FEATURES)
            y = tl.load(out_ptr + (first + at) * FEATURES, mask=inside, other=0.0).to(tl.float32)
            d = tl.load(d_out_ptr + (first + at) * D_STRIDE, mask=inside, other=0.0).to(tl.float32)
            d_x = y * (d - along[:, None, :])
            tl.store(d_x_ptr + (first + at) * FEATURES, d_x.to(d_x_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _tile(
    offsets_ptr,
    batch,
    FEATURES: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Return starts and lengths of the rows of this program, places in them and features, as three axes."""
    blocks: tl.constexpr = (FEATURES + BLOCK - 1) // BLOCK
    row = (tl.program_id(0) // blocks).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None, None]
    start = tl.load(offsets_ptr + row, mask=row < batch, other=0).to(tl.int64)
    stop = tl.load(offsets_ptr + row + 1, mask=row < batch, other=0).to(tl.int64)
    at = tl.arange(0, BLOCK_LENGTH)[None, :, None].to(tl.int64)
    return start, stop - start, at, tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)[None, None, :]


@triton.jit
def _finite(top):
    """Return what to subtract: an infinite top isn't, for inf - inf is NaN."""
    return tl.where(tl.abs(top) == float("inf"), 0.0, top)


@triton.jit
def _one_over(total, top):
    """Return ``1 / total``: 0 where all is -inf, NaN where something is inf."""
    share = tl.math.div_rn(1.0, tl.where(total == 0.0, 1.0, total))
    return tl.where(top == float("inf"), float("nan"), share)


def _forward(x: torch.Tensor, layout: Layout[torch.Tensor]) -> torch.Tensor:
    flat, stride = _columns_of(x)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    if x.numel() and layout.batch_size:
        _launch(_forward_kernel, {"X_STRIDE": stride}, layout, flat, layout.offsets.contiguous(), out)
    return out


def _backward(out: torch.Tensor, d_out: torch.Tensor, layout: Layout[torch.Tensor]) -> torch.Tensor:
    flat, stride = _columns_of(d_out)
    d_x = torch.empty_like(out)
    if out.numel() and layout.batch_size:
        _launch(_backward_kernel, {"D_STRIDE": stride}, layout, out, flat, layout.offsets.contiguous(), d_x)
    return d_x


def _launch(kernel: Any, strides: dict[str, int], layout: Layout[torch.Tensor], *arrays: torch.Tensor) -> None:
    out = arrays[-1]
    features = out.numel() // out.shape[0]
    tile = _tile_of(out.shape[0], features, layout)
    key = kernel, *strides.values(), features, tile, out.device, *map(alike, arrays)
    variant = _variants.get(key)
    if variant is None:
        blocks = {"BLOCK_ROWS": tile.rows, "BLOCK_LENGTH": tile.length, "BLOCK": tile.features}
        variant = _variants[key] = Variant(kernel, {**strides, "FEATURES": features, **blocks}, tile.warps, 1)
    programs = -(-layout.batch_size // tile.rows) * -(-features // tile.features)
    with on_device_of(out):
        variant(programs, *arrays, layout.batch_size)


_variants: dict[object, Variant] = {}


def _columns_of(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return ``x``, a view or else a copy of it, in which features are neighbours, and the step between elements."""
    if x.is_contiguous() or not x.numel():
        return x, x.numel() // max(1, x.shape[0])
    flat = columns(x)
    return flat, flat.stride(0)


class _Tile(NamedTuple):
    """What one program holds."""

    rows: int
    length: int
    features: int
    warps: int


def _tile_of(total: int, features: int, layout: Layout[torch.Tensor]) -> _Tile:
    """Return a tile in which most rows fit; short ones together, as long as there are programs enough for a GPU."""
    likely = 2 * total // layout.batch_size
    if layout.max_length is not None:
        likely = min(likely, layout.max_length)
    block = min(power_of_2(features, 1), NEIGHBOURS)
    length = power_of_2(likely, 4)
    if length * block >= LARGE:
        return _Tile(1, LARGE // block, block, 8)
    if length * block >= SMALL:
        return _Tile(1, length, block, 8 if length * block > SMALL else 4)
    each_of_many = power_of_2(1 + layout.batch_size * -(-features // block) // MANY, 1)
    return _Tile(min(SMALL // (length * block), each_of_many), length, block, 4)
