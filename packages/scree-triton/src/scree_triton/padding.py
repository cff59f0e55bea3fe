"""Rows laid out on a rectangle, and collected from it again: a kernel each way, which is the other's gradient.

A program has a few cells of the rectangle and some of their features. It finds out for itself which element lies in a
cell: by the offsets where rows are padded on one side, by a running count where a mask tells. So there is no map of
indices to be made, written and read. Elements are copied as bits, whatever their dtype.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from scree_core.layout import INT32_MAX, Layout
from scree_torch.backend import TorchBackend
from scree_triton.alike import alike
from scree_triton.columns import columns
from scree_triton.launch import Variant, on_device_of
from scree_triton.power_of_2 import power_of_2

TILE, WARPS = 1024, 2
"""Words that a program copies, and by how many warps: of 512 to 8,192 and 2 to 8, the fastest on an H100."""
WIDEST = 256
"""Words of one cell that it copies at most."""
WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
"""What is copied at once, by its bytes."""

_torch = TorchBackend()


class Cells(NamedTuple):
    """Which element lies in each cell of a rectangle ``(batch, width)``."""

    batch: int
    width: int
    left: bool
    """Whether the padding goes before the elements of a row."""
    offsets: torch.Tensor | None
    """Of shape ``(batch + 1,)``: where rows are padded on one side."""
    mask: torch.Tensor | None
    """Of shape ``(batch, width)``, bool: where any cells hold elements."""
    before: torch.Tensor | None
    """Of shape ``(batch * width + 1,)``: how many elements lie before each cell."""
    total: int
    """Elements, those of a tail included."""
    tail: bool


def to_padded(
    x: torch.Tensor, layout: Layout[torch.Tensor], *, width: int, side: str, fill_value: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Spread rows on a rectangle.

    Parameters
    ----------
    x : torch.Tensor of shape (total, *features)
        In any dtype but complex ones.
    layout : Layout
        Row boundaries.
    width : int
        Cells of a row; none is longer.
    side : {"right", "left"}
        Where the padding goes.
    fill_value : scalar
        What it holds.

    Returns
    -------
    padded : torch.Tensor of shape (batch, width, *features)
    mask : torch.Tensor of shape (batch, width), bool
        True where an element of the row lies.

    Notes
    -----
    Reads each element once and writes each cell once, in one launch. No sync.
    """
    batch = layout.batch_size
    if not (x.numel() and batch and width):
        return _torch.to_padded(x, layout, width=width, side=side, fill_value=fill_value)
    cells = Cells(batch, width, side == "left", layout.offsets.contiguous(), None, None, x.shape[0], layout.tail)
    mask = torch.empty((batch, width), dtype=torch.bool, device=x.device)
    if torch.is_grad_enabled() and x.requires_grad:
        padded = _Spread.apply(x, cells, fill_value, mask)
    else:
        padded = _spread(x, cells, fill_value, mask)
    return padded.view(batch, width, *x.shape[1:]), mask


def from_padded(
    padded: torch.Tensor, mask: torch.Tensor, *, capacity: int | None
) -> tuple[torch.Tensor, Layout[torch.Tensor]]:
    """Collect the elements that a mask marks, row by row.

    Parameters
    ----------
    padded : torch.Tensor of shape (batch, width, *features)
        In any dtype but complex ones.
    mask : torch.Tensor of shape (batch, width), bool
        Where elements lie.
    capacity : int or None
        How many to make room for: zeros follow.

    Returns
    -------
    values : torch.Tensor of shape (total, *features)
    layout : Layout

    Notes
    -----
    Reads and writes each element once, by the running count of the mask, which takes 4 bytes a cell. One sync, for the
    number of elements, unless there is a capacity.
    """
    if not padded.numel() or (capacity is not None and _torch.host_view(mask) is not None):
        return _torch.from_padded(padded, mask, capacity=capacity)
    batch, width = mask.shape
    cells, dtype = mask.numel(), torch.int32 if mask.numel() <= INT32_MAX else torch.int64
    before = torch.zeros(cells + 1, dtype=dtype, device=mask.device)
    torch.cumsum(mask.flatten(), 0, out=before[1:])
    offsets = before[::width].contiguous()
    if capacity is None:
        layout, total = _seen(offsets)
    else:
        layout, total = Layout.trusted(offsets, total=capacity, max_length=width, tail=True), capacity
    where = Cells(batch, width, False, None, mask.contiguous(), before, total, layout.tail)
    flat = padded.flatten(0, 1)
    if torch.is_grad_enabled() and padded.requires_grad:
        return _Collect.apply(flat, where), layout
    return _collect(flat, where), layout


def _seen(offsets: torch.Tensor) -> tuple[Layout[torch.Tensor], int]:
    """Return the layout of offsets, read on the host for all that there is to know, and their total."""
    host = _torch.to_numpy(offsets)
    if host[-1] <= INT32_MAX:
        host, offsets = host.astype(np.int32, copy=False), offsets.to(torch.int32)
    return Layout.known(offsets, host), int(host[-1])


class _Spread(torch.autograd.Function):
    # Forward takes the context itself: setup_context costs 10 us in every call.
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cells: Cells, fill_value: Any, mask: torch.Tensor | None) -> torch.Tensor:
        ctx.cells = cells
        ctx.set_materialize_grads(False)
        return _spread(x, cells, fill_value, mask)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> Any:
        (d_out,) = cotangents
        if d_out is None:
            return None, None, None, None
        collect = _Collect.apply if torch.is_grad_enabled() else _collect
        return collect(d_out, ctx.cells), None, None, None


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, padded: torch.Tensor, cells: Cells) -> torch.Tensor:
        ctx.cells = cells
        ctx.set_materialize_grads(False)
        return _collect(padded, cells)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> Any:
        (d_out,) = cotangents
        if d_out is None:
            return None, None
        spread = _Spread.apply if torch.is_grad_enabled() else _spread
        return spread(d_out, ctx.cells, 0, None), None


@triton.jit(do_not_specialize=["batch", "width", "total", "fill"])
def _spread_kernel(
    x_ptr,
    offsets_ptr,
    given_ptr,
    before_ptr,
    out_ptr,
    mask_ptr,
    batch: tl.int64,  # pyrefly: ignore[not-a-type]
    width: tl.int64,  # pyrefly: ignore[not-a-type]
    total: tl.int64,  # pyrefly: ignore[not-a-type]
    fill: tl.int64,  # pyrefly: ignore[not-a-type]
    STRIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    LEFT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CELLS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    part, cell, inside, element, is_real = _cells(
        batch, width, total, offsets_ptr, given_ptr, before_ptr, FEATURES, LEFT, BLOCK_ROWS, BLOCK_CELLS, BLOCK
    )
    if mask_ptr is not None and part == 0:
        tl.store(mask_ptr + cell, is_real, mask=inside)
    feature = part * BLOCK + tl.arange(0, BLOCK)[None, :]
    blank = fill.to(out_ptr.dtype.element_ty)
    is_real, inside = is_real[:, None] & (feature < FEATURES), inside[:, None] & (feature < FEATURES)
    x = tl.load(x_ptr + element[:, None] * STRIDE + feature, mask=is_real, other=blank)
    tl.store(out_ptr + cell[:, None] * FEATURES + feature, x, mask=inside)


@triton.jit(do_not_specialize=["batch", "width", "total"])
def _collect_kernel(
    padded_ptr,
    offsets_ptr,
    given_ptr,
    before_ptr,
    out_ptr,
    batch: tl.int64,  # pyrefly: ignore[not-a-type]
    width: tl.int64,  # pyrefly: ignore[not-a-type]
    total: tl.int64,  # pyrefly: ignore[not-a-type]
    STRIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    LEFT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CELLS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    part, cell, _, element, is_real = _cells(
        batch, width, total, offsets_ptr, given_ptr, before_ptr, FEATURES, LEFT, BLOCK_ROWS, BLOCK_CELLS, BLOCK
    )
    feature = part * BLOCK + tl.arange(0, BLOCK)[None, :]
    is_real = is_real[:, None] & (feature < FEATURES)
    x = tl.load(padded_ptr + cell[:, None] * STRIDE + feature, mask=is_real)
    tl.store(out_ptr + element[:, None] * FEATURES + feature, x, mask=is_real)


@triton.jit
def _cells(
    batch,
    width,
    total,
    offsets_ptr,
    given_ptr,
    before_ptr,
    FEATURES: tl.constexpr,
    LEFT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CELLS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Return a program's part of the features, its cells, which of them exist, their elements, and which have one."""
    parts: tl.constexpr = (FEATURES + BLOCK - 1) // BLOCK
    program, of_row = tl.program_id(0) // parts, tl.cdiv(width, BLOCK_CELLS).to(tl.int32)
    own = tl.arange(0, BLOCK_ROWS * BLOCK_CELLS)
    row = (program // of_row).to(tl.int64) * BLOCK_ROWS + own // BLOCK_CELLS
    at = (program % of_row).to(tl.int64) * BLOCK_CELLS + own % BLOCK_CELLS
    inside = (row < batch) & (at < width)
    cell = row * width + at
    if given_ptr is not None:
        is_real = tl.load(given_ptr + cell, mask=inside, other=0) != 0
        element = tl.load(before_ptr + cell, mask=is_real, other=0).to(tl.int64)
        is_real = is_real & (element < total)
    else:
        start = tl.load(offsets_ptr + row, mask=inside, other=0).to(tl.int64)
        stop = tl.load(offsets_ptr + row + 1, mask=inside, other=0).to(tl.int64)
        element = start + at
        if LEFT:
            element -= width - (stop - start)
        is_real = (element >= start) & (element < stop)
    return tl.program_id(0) % parts, cell, inside, element, is_real


def _spread(x: torch.Tensor, cells: Cells, fill_value: Any, mask: torch.Tensor | None) -> torch.Tensor:
    """Return ``(batch * width, *features)``, and write the mask if there is one."""
    out = torch.empty((cells.batch * cells.width, *x.shape[1:]), dtype=x.dtype, device=x.device)
    if not x.shape[0]:
        return out.fill_(fill_value)
    flat, word = _words(x, out)
    fill = _bits(fill_value, x.dtype, word)
    _launch(_spread_kernel, cells, flat, (out.view(len(out), -1).view(word), mask), (fill,))
    return out


def _collect(padded: torch.Tensor, cells: Cells) -> torch.Tensor:
    """Return ``(total, *features)``."""
    make = torch.zeros if cells.tail else torch.empty  # nothing lies in a tail
    out = make((cells.total, *padded.shape[1:]), dtype=padded.dtype, device=padded.device)
    if cells.total:
        flat, word = _words(padded, out)
        _launch(_collect_kernel, cells, flat, (out.view(len(out), -1).view(word),), ())
    return out


def _launch(
    kernel: Any, cells: Cells, flat: torch.Tensor, written: tuple[torch.Tensor | None, ...], more: tuple[int, ...]
) -> None:
    features, batch, width = flat.shape[1], cells.batch, cells.width
    block = min(power_of_2(features, 1), WIDEST)
    at_once = min(power_of_2(width, 1), TILE // block)
    rows = TILE // (block * at_once)
    arrays = flat, cells.offsets, cells.mask, cells.before, *written
    key = kernel, flat.stride(0), features, cells.left, at_once, flat.device, *map(alike, arrays)
    variant = _variants.get(key)
    if variant is None:
        constants = {"STRIDE": flat.stride(0), "FEATURES": features, "LEFT": cells.left}
        blocks = {"BLOCK_ROWS": rows, "BLOCK_CELLS": at_once, "BLOCK": block}
        variant = _variants[key] = Variant(kernel, constants | blocks, WARPS, 1)
    programs = -(-batch // rows) * -(-width // at_once) * -(-features // block)
    with on_device_of(flat):
        variant(programs, *arrays, batch, width, cells.total, *more)


_variants: dict[object, Variant] = {}


def _words(x: torch.Tensor, out: torch.Tensor) -> tuple[torch.Tensor, torch.dtype]:
    """Return x as ``(n, words)``, a view or else a copy of it, and the word: the longest that all addresses allow."""
    flat = columns(x)
    size = x.element_size()
    step = flat.shape[1] if flat.shape[0] == 1 else flat.stride(0)  # PyTorch looks at no others
    bits = flat.data_ptr() | out.data_ptr() | size * flat.shape[1] | size * step | 8
    word = WORDS[bits & -bits]
    return flat.view(word), word


def _bits(fill_value: Any, dtype: torch.dtype, word: torch.dtype) -> int:
    """Return the word that holds a value over and over."""
    if str(fill_value) in ("0", "0.0", "False"):  # and not -0.0
        return 0
    return int(torch.full((8,), fill_value, dtype=dtype).view(word)[0])
