"""Arithmetic, comparison and bitwise operators: elementwise on the values, layout shared."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from scree_core.dispatch import elsewhere
from scree_core.errors import ArgumentTypeError, ShapeError

if TYPE_CHECKING:
    from scree_core.array.type import Array


class Elementwise:
    """Operators of ``scree.Array`` with scalars, dense arrays, and Arrays of equal offsets.

    A dense array must broadcast to the shape of the values, not beyond it. Offsets are compared without
    a sync: two Arrays whose offsets only a device could compare are taken to be equal if their batch
    size and total length are.
    """

    __slots__ = ()

    # NumPy would otherwise take an Array on its right for a sequence, and broadcast over it.
    __array_ufunc__ = None
    __array_priority__ = 1000

    def __add__(self, other: Any) -> Any:
        return _binary(operator.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return _reflected(operator.add, self, other)

    def __sub__(self, other: Any) -> Any:
        return _binary(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _reflected(operator.sub, self, other)

    def __mul__(self, other: Any) -> Any:
        return _binary(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return _reflected(operator.mul, self, other)

    def __truediv__(self, other: Any) -> Any:
        return _binary(operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _reflected(operator.truediv, self, other)

    def __floordiv__(self, other: Any) -> Any:
        return _binary(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _reflected(operator.floordiv, self, other)

    def __mod__(self, other: Any) -> Any:
        return _binary(operator.mod, self, other)

    def __rmod__(self, other: Any) -> Any:
        return _reflected(operator.mod, self, other)

    def __pow__(self, other: Any) -> Any:
        return _binary(operator.pow, self, other)

    def __rpow__(self, other: Any) -> Any:
        return _reflected(operator.pow, self, other)

    def __and__(self, other: Any) -> Any:
        return _binary(operator.and_, self, other)

    def __rand__(self, other: Any) -> Any:
        return _reflected(operator.and_, self, other)

    def __or__(self, other: Any) -> Any:
        return _binary(operator.or_, self, other)

    def __ror__(self, other: Any) -> Any:
        return _reflected(operator.or_, self, other)

    def __xor__(self, other: Any) -> Any:
        return _binary(operator.xor, self, other)

    def __rxor__(self, other: Any) -> Any:
        return _reflected(operator.xor, self, other)

    def __lt__(self, other: Any) -> Any:
        return _binary(operator.lt, self, other)

    def __le__(self, other: Any) -> Any:
        return _binary(operator.le, self, other)

    def __gt__(self, other: Any) -> Any:
        return _binary(operator.gt, self, other)

    def __ge__(self, other: Any) -> Any:
        return _binary(operator.ge, self, other)

    def __eq__(self, other: object) -> Any:
        return _binary(operator.eq, self, other)

    def __ne__(self, other: object) -> Any:
        return _binary(operator.ne, self, other)

    __hash__ = object.__hash__

    def __neg__(self) -> Any:
        return _unary(operator.neg, self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return _unary(operator.abs, self)

    def __invert__(self) -> Any:
        return _unary(operator.invert, self)


def _unary(op: Callable[[Any], Any], arr: Any) -> Any:
    return arr.with_values(op(arr.values))


def _binary(op: Callable[[Any, Any], Any], arr: Any, other: Any) -> Any:
    dense = _operand(arr, other)
    return NotImplemented if dense is NotImplemented else arr.with_values(op(arr.values, dense))


def _reflected(op: Callable[[Any, Any], Any], arr: Any, other: Any) -> Any:
    dense = _operand(arr, other)
    return NotImplemented if dense is NotImplemented else arr.with_values(op(dense, arr.values))


def _operand(arr: Any, other: Any) -> Any:
    """Return what to combine the values with, after checking that it fits them."""
    if isinstance(other, Elementwise):
        check_same_layout(arr, cast("Array[Any]", other), "the left and the right operand")
        return _of_one_library(arr, cast("Array[Any]", other).values)
    if isinstance(other, (bool, int, float, complex)):
        return other
    if not hasattr(other, "shape") or not hasattr(other, "dtype"):
        return NotImplemented
    shape, target = tuple(other.shape), tuple(arr.values.shape)
    fits = len(shape) <= len(target) and all(
        n in (1, m) for n, m in zip(reversed(shape), reversed(target), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"a dense operand of shape {shape} doesn't broadcast to the values' shape {target}; "
            "to add one value per row, use scree.repeat_rows(dense, like=arr)"
        )
    return _of_one_library(arr, other)


def _of_one_library(arr: Any, other: Any) -> Any:
    if type(other) is type(arr.values) or arr.backend.owns(other):
        if other.shape and not arr.backend.beside(arr.values, other):
            raise ShapeError(elsewhere(arr.backend, "the values", arr.values, "the dense operand", other))
        return other
    if isinstance(other, np.generic):
        return other if isinstance(arr.values, np.ndarray) else other.item()
    raise ArgumentTypeError(
        f"both operands must belong to one library, got values of {type(arr.values).__name__} and a dense "
        f"{type(other).__name__}; convert one of them"
    )


def check_same_layout(a: Array[Any], b: Array[Any], names: str) -> None:
    """Raise a ShapeError where two Arrays provably lie differently. No sync."""
    if a.ragged_dim != b.ragged_dim:
        raise ShapeError(f"{names} have different ragged axes: ragged_dim={a.ragged_dim} and {b.ragged_dim}")
    if a.layout.same(b.layout) is not False and a.total_length == b.total_length:
        return
    if a.batch_size != b.batch_size or a.total_length != b.total_length:
        raise ShapeError(
            f"{names} need equal offsets: they have {a.batch_size} and {b.batch_size} rows, "
            f"{a.total_length} and {b.total_length} elements"
        )
    row = _first_difference(a, b)
    raise ShapeError(f"{names} need equal offsets, but they differ at offsets[{row}]")


def _first_difference(a: Array[Any], b: Array[Any]) -> int:
    return int(np.argmax(np.asarray(a.layout.host) != np.asarray(b.layout.host)))
