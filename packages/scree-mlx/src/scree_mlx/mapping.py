"""``mx.vmap`` for functions that take and return ``scree.Array``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from scree_core.array import Array
from scree_core.errors import ArgumentTypeError, ShapeError, UnsupportedError
from scree_core.layout import Layout
from scree_mlx.trees import map_tree


@dataclass(frozen=True)
class _Leaf:
    """Stands for an array, or with a layout for an Array of it."""

    number: int
    axis: int | None
    layout: Layout[mx.array] | None = None
    ragged_dim: int = 0

    def made(self, arrays: tuple[mx.array, ...] | list[mx.array]) -> Any:
        x = arrays[self.number]
        return x if self.layout is None else Array.trusted(x, self.layout, self.ragged_dim)


def vmap(fn: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Return a function that maps ``fn`` over an axis of its arguments, as ``mx.vmap`` does.

    Parameters
    ----------
    fn : callable
        Takes and returns trees of arrays and Arrays.
    in_axes, out_axes : int, None, or trees of these, default 0
        The axis of each array, and of the values of each Array, that is mapped over and returned; None for the same
        in every call. Not the ragged axis: to the mapped function each Array has all its rows.

    Returns
    -------
    callable

    Raises
    ------
    ShapeError
        When called: an axis to map over is the ragged one.
    UnsupportedError
        When called: a result has a layout made inside, for rows that might differ between the calls.

    Notes
    -----
    The layouts are shared, not mapped. Attention inside doesn't use NumPy.

    Examples
    --------
    >>> import mlx.core as mx, scree, scree_mlx
    >>> heads = scree.from_lengths(mx.ones((3, 2, 4)), [1, 2])  # (total, heads, feature)
    >>> scree_mlx.vmap(lambda head: scree.varlen_sum(head), in_axes=1)(heads).shape
    (2, 2, 4)
    """

    @functools.wraps(fn)
    def wrapped(*args: Any) -> Any:
        given: list[mx.array] = []
        leaves = map_tree(lambda leaf, axis: _taken(leaf, axis, given), args, in_axes)
        shared = [x.layout for x in _flat(leaves) if isinstance(x, _Leaf) and x.layout is not None]
        marks: list[Any] = []

        def of_arrays(*arrays: mx.array) -> list[mx.array]:
            inner = map_tree(lambda leaf: leaf.made(arrays) if isinstance(leaf, _Leaf) else leaf, leaves)
            found: list[mx.array] = []
            marks.append(map_tree(lambda leaf, axis: _returned(leaf, axis, found, shared), fn(*inner), out_axes))
            return found

        axes = [leaf.axis for leaf in _flat(leaves) if isinstance(leaf, _Leaf)]
        found = mx.vmap(of_arrays, in_axes=tuple(axes))(*given)
        return map_tree(lambda leaf: _moved(leaf, found), marks[-1])

    return wrapped


def _flat(tree: Any) -> list[Any]:
    leaves: list[Any] = []
    map_tree(leaves.append, tree)
    return leaves


def _taken(leaf: Any, axis: Any, arrays: list[mx.array]) -> Any:
    if not isinstance(leaf, (Array, mx.array)):
        return leaf
    arrays.append(leaf.values if isinstance(leaf, Array) else leaf)
    number = len(arrays) - 1
    if not isinstance(leaf, Array):
        return _Leaf(number, axis)
    if axis is None:
        return _Leaf(number, None, leaf.layout, leaf.ragged_dim)
    if not -leaf.ndim <= axis < leaf.ndim or axis % leaf.ndim == leaf.ragged_dim:
        raise ShapeError(
            f"can't map over axis {axis} of an Array with values {tuple(leaf.values.shape)} and ragged_dim="
            f"{leaf.ragged_dim}: name another in in_axes, or None; rows aren't mapped over"
        )
    axis %= leaf.ndim
    return _Leaf(number, axis, leaf.layout, leaf.ragged_dim - (axis < leaf.ragged_dim))


def _returned(leaf: Any, axis: Any, arrays: list[mx.array], shared: list[Layout[mx.array]]) -> _Leaf:
    if isinstance(leaf, mx.array):
        arrays.append(leaf)
        return _Leaf(len(arrays) - 1, axis)
    if not isinstance(leaf, Array):
        raise ArgumentTypeError(
            f"a mapped function returns trees of arrays and scree.Arrays, got {type(leaf).__name__}"
        )
    if leaf.layout.host is None and not any(leaf.layout is layout for layout in shared):
        raise UnsupportedError(
            "a mapped function can't return an Array on a layout that it has made; return its values"
        )
    arrays.append(leaf.values)
    return _Leaf(len(arrays) - 1, axis, leaf.layout, leaf.ragged_dim)


def _moved(leaf: _Leaf, arrays: list[mx.array]) -> Any:
    """Put the mapped axis, the first, where it is wanted."""
    x = arrays[leaf.number]
    if leaf.axis is None:
        moved, ragged_dim = x[0], leaf.ragged_dim
    else:
        axis = leaf.axis % x.ndim
        moved, ragged_dim = mx.moveaxis(x, 0, axis), leaf.ragged_dim + (axis <= leaf.ragged_dim)
    return moved if leaf.layout is None else Array.trusted(moved, leaf.layout, ragged_dim)
