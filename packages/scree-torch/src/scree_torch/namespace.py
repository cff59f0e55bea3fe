"""PyTorch's functions under the array API names that core asks for."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import torch
from torch import (
    Tensor,
    arange,
    bool,
    broadcast_to,
    exp,
    float32,
    full_like,
    int32,
    int64,
    log,
    matmul,
    maximum,
    moveaxis,
    reshape,
    sqrt,
    tanh,
    zeros_like,
)

__all__ = [
    "arange",
    "astype",
    "bool",
    "broadcast_to",
    "concat",
    "cumulative_sum",
    "exp",
    "float32",
    "full",
    "full_like",
    "int32",
    "int64",
    "log",
    "matmul",
    "max",
    "maximum",
    "min",
    "moveaxis",
    "permute_dims",
    "reshape",
    "searchsorted",
    "sqrt",
    "stack",
    "sum",
    "take",
    "tanh",
    "where",
    "zeros_like",
]

SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
"""Unsigned dtypes that PyTorch stores but hardly computes with, and the signed ones of the same bits."""


def full(shape: Sequence[int], fill_value: Any, *, dtype: torch.dtype, device: Any = "cpu") -> Tensor:
    """Return a tensor of one value.

    On the CPU whatever ``torch.set_default_device`` says: a CPU tensor of shape ``()`` combines with those
    of any device, another one with those of its own device alone.
    """
    return torch.full(shape, fill_value, dtype=dtype, device=device)


def astype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast; the same tensor where it has the dtype already."""
    return x.to(dtype)


def concat(arrays: Sequence[Tensor], *, axis: int = 0) -> Tensor:
    """Join along an axis."""
    return torch.cat(tuple(arrays), dim=axis)


def stack(arrays: Sequence[Tensor], *, axis: int = 0) -> Tensor:
    """Join along a new axis."""
    return torch.stack(tuple(arrays), dim=axis)


def permute_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Reorder the axes; a view."""
    return torch.permute(x, tuple(axes))


def take(x: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    """Gather along an axis by indices of shape ``(n,)``."""
    if x.dtype in SIGNED:
        return take(x.view(SIGNED[x.dtype]), indices, axis=axis).view(x.dtype)
    if indices.dtype not in (int32, int64):
        indices = indices.to(int64)
    return torch.index_select(x, axis, indices)


def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return ``x`` where the condition holds, else ``y``; constants may be on the CPU."""
    return torch.where(condition, _beside(condition, x), _beside(condition, y))


def _beside(condition: Tensor, x: Tensor) -> Tensor:
    if x.device == condition.device or x.ndim or torch.compiler.is_compiling():
        return x
    # torch.where would copy the constant to the device, and wait for it.
    return torch.full((), x.item(), dtype=x.dtype, device=condition.device)


def searchsorted(x1: Tensor, x2: Tensor, *, side: str = "left") -> Tensor:
    """Return where ``x2`` would be inserted into the sorted ``x1``."""
    return torch.searchsorted(x1.contiguous(), x2.contiguous(), side=side)  # PyTorch warns of a strided one


def sum(x: Tensor, *, axis: int | tuple[int, ...] | None = None, keepdims: builtins.bool = False) -> Tensor:
    """Add up; integers and bools give int64."""
    return torch.sum(x, dim=axis, keepdim=keepdims)


def max(x: Tensor, *, axis: int | tuple[int, ...] = (), keepdims: builtins.bool = False) -> Tensor:
    """Take the largest; ties share the gradient equally."""
    return torch.amax(x, dim=axis, keepdim=keepdims)


def min(x: Tensor, *, axis: int | tuple[int, ...] = (), keepdims: builtins.bool = False) -> Tensor:
    """Take the smallest; ties share the gradient equally."""
    return torch.amin(x, dim=axis, keepdim=keepdims)


def cumulative_sum(x: Tensor, *, axis: int) -> Tensor:
    """Return the running sum; integers and bools give int64."""
    return torch.cumsum(x, dim=axis)
