"""``mx.compile`` for functions that take and return ``scree.Array``.

MLX's own takes no Array, and what it does with a returned one can't be mended from here: it hands out the dead
arrays of its trace, which fail as soon as they are evaluated ("array without a primitive").
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from scree_core.array import Array
from scree_core.errors import ArgumentTypeError
from scree_core.layout import Layout
from scree_mlx.trees import map_tree

CONSTANTS = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class _Raw:
    """Stands for an array."""

    number: int


@dataclass(frozen=True)
class _Rows:
    """Stands for an Array."""

    values: int
    layout: int
    ragged_dim: int


@dataclass(frozen=True)
class _Boundaries:
    """Stands for a layout."""

    offsets: int
    max_length: int | None
    min_length: int | None
    tail: bool


@dataclass(frozen=True)
class _Constant:
    """Stands for itself; True isn't 1 here."""

    kind: type
    value: Any


def compile(
    fn: Callable[..., Any], inputs: Any = None, outputs: Any = None, shapeless: bool = False
) -> Callable[..., Any]:
    """Return a compiled function that does what ``fn`` does, as ``mx.compile`` gives one.

    Parameters
    ----------
    fn : callable
        Takes and returns trees of arrays, Arrays and constants (numbers, strings, None).
    inputs, outputs, shapeless
        As for ``mx.compile``.

    Returns
    -------
    callable
        An Array on the layout of an argument is returned on that very layout.

    Raises
    ------
    ArgumentTypeError
        When called: an argument or a result is none of these. A result of another type would hold dead arrays.

    Notes
    -----
    Inside, offsets have no values: attention and the running sum of floats lay all rows out on one rectangle as
    wide as ``max_length``, and need to know it. Compiled anew for each shape, as by ``mx.compile``, and for each
    ``max_length``; for whether all rows have elements, for ``ragged_dim`` and constants. So lengths that change cost a
    compilation for each total and each longest row: ``scree.bucket(arr, max_length=context)`` makes them few.

    On CUDA a call with arrays of no elements isn't compiled: in mlx 0.32.4 such a program ends the process.

    Examples
    --------
    >>> import mlx.core as mx, scree, scree_mlx
    >>> x = scree.from_lengths(mx.array([1.0, 2.0, 4.0]), [1, 2])
    >>> scree_mlx.compile(scree.varlen_cumsum)(x).values
    array([1, 2, 6], dtype=float32)
    """
    arguments: dict[Any, int] = {}
    trees: list[tuple[Any, tuple[_Boundaries, ...]]] = []
    results: list[tuple[Any, list[Any]]] = []

    def of_arrays(number: int, arrays: list[mx.array]) -> tuple[list[mx.array], int]:
        tree, boundaries = trees[number]
        layouts = [_layout(b, arrays) for b in boundaries]
        args, kwargs = map_tree(lambda mark: _made(mark, arrays, layouts), tree)
        given = len(layouts)
        found: list[mx.array] = []
        marks = map_tree(lambda leaf: _mark(leaf, found, layouts, "returned"), fn(*args, **kwargs))
        results.append((marks, [_lasting(layout, found) for layout in layouts[given:]]))
        return found, len(results) - 1

    compiled = mx.compile(of_arrays, inputs, outputs, shapeless)

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        arrays: list[mx.array] = []
        layouts: list[Layout[mx.array]] = []
        tree = map_tree(lambda leaf: _mark(leaf, arrays, layouts, "given"), (args, kwargs))
        boundaries = tuple(_boundaries(layout, arrays) for layout in layouts)
        key = _frozen(tree), boundaries
        if key not in arguments:
            arguments[key] = len(trees)
            trees.append((tree, boundaries))
        run = of_arrays if _would_crash(arrays) else compiled
        found, number = run(arguments[key], arrays)
        marks, own = results[number]
        layouts += [_layout(b, found) if isinstance(b, _Boundaries) else b for b in own]
        return map_tree(lambda mark: _made(mark, found, layouts), marks)

    return wrapped


def _would_crash(arrays: list[mx.array]) -> bool:
    """Tell whether MLX ends the process at running a compiled program of these."""
    return any(x.size == 0 for x in arrays) and mx.cuda.is_available() and mx.default_device().type == mx.gpu


def _mark(leaf: Any, arrays: list[mx.array], layouts: list[Layout[mx.array]], what: str) -> Any:
    """Return what stands for a leaf, after adding its array and layout to those there are."""
    if isinstance(leaf, mx.array):
        return _Raw(_added(leaf, arrays))
    if isinstance(leaf, Array):
        return _Rows(_added(leaf.values, arrays), _added(leaf.layout, layouts), leaf.ragged_dim)
    if isinstance(leaf, CONSTANTS):
        return _Constant(type(leaf), leaf)
    raise ArgumentTypeError(
        f"a compiled function takes and returns trees of arrays, scree.Arrays, numbers, strings and None, {what} was a "
        f"{type(leaf).__name__}; close over it, or take it apart"
    )


def _made(mark: Any, arrays: list[mx.array], layouts: list[Layout[mx.array]]) -> Any:
    if isinstance(mark, _Raw):
        return arrays[mark.number]
    if isinstance(mark, _Rows):
        return Array.trusted(arrays[mark.values], layouts[mark.layout], mark.ragged_dim)
    return mark.value


def _boundaries(layout: Layout[mx.array], arrays: list[mx.array]) -> _Boundaries:
    """Return what the function is compiled for: of the shortest row, only whether it has elements."""
    shortest = None if layout.min_length is None else min(1, layout.min_length)
    return _Boundaries(_added(layout.offsets, arrays), layout.max_length, shortest, layout.tail)


def _layout(boundaries: _Boundaries, arrays: list[mx.array]) -> Layout[mx.array]:
    hints = {"max_length": boundaries.max_length, "min_length": boundaries.min_length, "tail": boundaries.tail}
    return Layout.trusted(arrays[boundaries.offsets], **hints)


def _lasting(layout: Layout[mx.array], arrays: list[mx.array]) -> _Boundaries | Layout[mx.array]:
    """Return a layout whose offsets come from the host as it is, and what stands for another: it is the trace's."""
    return layout if layout.host is not None else _boundaries(layout, arrays)


def _added(item: Any, items: list[Any]) -> int:
    """Return the number of an object in a list, after adding it if it isn't there."""
    for number, other in enumerate(items):
        if other is item:
            return number
    items.append(item)
    return len(items) - 1


def _frozen(tree: Any) -> Any:
    if isinstance(tree, dict):
        return dict, tuple((key, _frozen(value)) for key, value in tree.items())
    if isinstance(tree, (list, tuple)):
        return type(tree), tuple(map(_frozen, tree))
    return tree
