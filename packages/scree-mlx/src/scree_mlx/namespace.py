"""MLX's functions under the array API names that core asks for, and mended where they would be wrong.

MLX checks no index, adds small integers up in small integers, rounds ``exp`` coarsely, lets NaN through the
gradient of ``where``, and may loop for ever over the sum of nothing.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.core import (
    arange,
    array,
    broadcast_to,
    float32,
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
from mlx.core import bool_ as bool

from scree_mlx.choice import where
from scree_mlx.exponential import exp

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


def full(shape: Sequence[int], fill_value: Any, *, dtype: mx.Dtype) -> array:
    """Return an array of one value."""
    if dtype == mx.uint64:  # mx.full reads an int64
        return mx.broadcast_to(mx.array(np.array(fill_value, np.uint64)), shape)
    return mx.full(shape, fill_value, dtype=dtype)


def full_like(x: array, fill_value: Any, *, dtype: mx.Dtype | None = None) -> array:
    """Return an array of one value in the shape of ``x``."""
    return full(x.shape, fill_value, dtype=dtype or x.dtype)


def astype(x: array, dtype: mx.Dtype) -> array:
    """Cast."""
    return x.astype(dtype)


def concat(arrays: Sequence[array], *, axis: int = 0) -> array:
    """Join along an axis."""
    return mx.concatenate(list(arrays), axis=axis)


def stack(arrays: Sequence[array], *, axis: int = 0) -> array:
    """Join along a new axis."""
    return mx.stack(list(arrays), axis=axis)


def permute_dims(x: array, axes: Sequence[int]) -> array:
    """Reorder the axes."""
    return mx.transpose(x, list(axes))


def take(x: array, indices: array, *, axis: int) -> array:
    """Gather along an axis. Indices are clipped: MLX would read foreign memory for one out of range."""
    shape = (*x.shape[:axis], indices.size, *x.shape[axis + 1 :])
    count = x.shape[axis]
    if count == 0 or 0 in shape:
        return mx.zeros(shape, dtype=x.dtype)  # the gradient of MLX's gather of nothing divides by zero: SIGFPE
    # MLX refuses forward mode through indices that came in as arguments, though they have no slope.
    return mx.take(x, mx.stop_gradient(mx.clip(indices, 0, count - 1)), axis=axis)


def searchsorted(x1: array, x2: array, *, side: str = "left") -> array:
    """Return where ``x2`` would be inserted into the sorted ``x1``."""
    return mx.searchsorted(x1, x2, side=side)


def sum(x: array, *, axis: int | tuple[int, ...] | None = None, keepdims: builtins.bool = False) -> array:
    """Add up; integers in 64 bits, as NumPy does, where MLX would overflow int32."""
    x = _widened(x)
    if x.size == 0:
        x = mx.zeros(x.shape, dtype=x.dtype)  # MLX loops for ever over an empty slice that isn't contiguous
    return mx.sum(x, axis=axis, keepdims=keepdims)


def cumulative_sum(x: array, *, axis: int) -> array:
    """Return the running sum; integers in 64 bits."""
    return mx.cumsum(_widened(x), axis=axis)


def _widened(x: array) -> array:
    if mx.issubdtype(x.dtype, mx.unsignedinteger):
        return x.astype(mx.uint64)
    if x.dtype == mx.bool_ or mx.issubdtype(x.dtype, mx.signedinteger):
        return x.astype(mx.int64)
    return x


def max(x: array, *, axis: int | tuple[int, ...], keepdims: builtins.bool = False) -> array:
    """Take the largest; ties share the gradient equally."""
    return mx.max(x, axis=axis, keepdims=keepdims)


def min(x: array, *, axis: int | tuple[int, ...], keepdims: builtins.bool = False) -> array:
    """Take the smallest; ties share the gradient equally."""
    return mx.min(x, axis=axis, keepdims=keepdims)
