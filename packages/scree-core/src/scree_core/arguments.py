"""Checks and canonical forms that ops and constructors share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scree_core.array import Array
from scree_core.backend import FLOAT_DTYPES
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.layout import Layout
from scree_core.tail import seen, with_tail, without_tail

INTEGER_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

FLOAT_MAX = {"float64": math.inf, "float32": 2.0**128, "float16": 65519.0, "bfloat16": 2.0**128}
"""The largest numbers that round to a finite one, or a little more."""


def check_array(arr: object, name: str) -> None:
    """Check that an argument is a ``scree.Array``."""
    if not isinstance(arr, Array):
        raise ArgumentTypeError(
            f"{name} must be a scree.Array, got {type(arr).__name__}; wrap packed values with scree.from_lengths "
            "or scree.from_cu_seqlens, or a list of arrays with scree.pack"
        )


def check_floating(arr: Array[Any], op: str, name: str) -> None:
    """Check that the values are real floating-point numbers."""
    dtype = arr.backend.dtype_name(arr.values)
    if dtype not in FLOAT_DTYPES:
        raise ShapeError(f'{op} needs floating-point {name}, got {dtype}; use {name}.astype("float32")')


def front(arr: Array[Any]) -> Any:
    """Return the values as ops take them, to go with ``layout_of(arr)``: the ragged axis first, no tail that counts.

    A view, as far as the library has views; a tail costs one pass over the values.
    """
    values = arr.values if arr.ragged_dim == 0 else arr.backend.xp.moveaxis(arr.values, arr.ragged_dim, 0)
    return without_tail(arr.backend, values, arr.layout) if arr.layout.tail else values


def layout_of(arr: Array[Any]) -> Layout[Any]:
    """Return the layout as ops take it."""
    return seen(arr.backend, arr.layout) if arr.layout.tail else arr.layout


def restore(arr: Array[Any], values: Any) -> Array[Any]:
    """Return an Array on the layout of ``arr`` from an op's result, which has the ragged axis first."""
    if arr.layout.tail:
        values = with_tail(arr.backend, values, arr.layout, arr.total_length)
    back = values if arr.ragged_dim == 0 else arr.backend.xp.moveaxis(values, 0, arr.ragged_dim)
    return Array.trusted(back, arr.layout, arr.ragged_dim)


def check_number(name: str, value: Any) -> float:
    """Return a real number as a float, after checking that it is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def check_holds(name: str, value: Any, dtype: str) -> None:
    """Check that a dtype can hold a number: a float what is in its range, an integer whole numbers in its."""
    known = dtype in FLOAT_MAX or dtype in INTEGER_DTYPES or dtype == "bool"
    number = isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating))
    if known and not (number and _holds(value, dtype)):
        raise ArgumentError(f"{name}={value!r} can't be held by values of dtype {dtype}")


def _holds(value: Any, dtype: str) -> bool:
    finite = -math.inf < value < math.inf  # math.isfinite can't be traced by torch.compile
    if dtype in FLOAT_MAX:
        return not finite or abs(value) <= FLOAT_MAX[dtype]
    if dtype == "bool":
        return value in (0, 1)
    info = np.iinfo(dtype)
    return finite and value == int(value) and info.min <= value <= info.max
