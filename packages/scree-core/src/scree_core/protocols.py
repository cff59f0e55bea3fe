"""What scree asks of an array library, as types."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

ArrayT = TypeVar("ArrayT", bound=Any)
"""The library's own array type: ``numpy.ndarray``, ``torch.Tensor``, ``jax.Array``, ``mlx.core.array``."""


class Namespace(Protocol):
    """The functions of the array API standard (2024.12) that the reference and core are written in.

    NumPy, JAX and array-api-strict offer them as they are; torch and MLX get a thin adapter in their
    backend. A test runs the reference with a namespace that has these names and no other, so this list
    is complete. Beyond them, arrays need ``shape``, ``dtype``, ``ndim``, the arithmetic, comparison and
    bitwise operators, and basic slicing; nothing is written in place. ``arange`` gets the ``device`` of
    the arrays it goes with, where they have one.
    """

    # dtypes
    bool: Any
    int32: Any
    int64: Any
    float32: Any
    # making
    arange: Any
    full: Any
    full_like: Any
    zeros_like: Any
    # shape
    concat: Any
    stack: Any
    reshape: Any
    moveaxis: Any
    permute_dims: Any
    broadcast_to: Any
    # choosing
    astype: Any
    take: Any
    where: Any
    searchsorted: Any
    # elementwise
    exp: Any
    log: Any
    sqrt: Any
    tanh: Any
    maximum: Any
    # along an axis
    sum: Any
    max: Any
    min: Any
    cumulative_sum: Any
    matmul: Any
