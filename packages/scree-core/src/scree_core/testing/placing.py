"""Putting a case's arguments into the arrays of a library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from scree_core.array import Array
from scree_core.layout import Layout, offsets_from_lengths
from scree_core.testing.case import Dense, Rows
from scree_core.testing.truth import as_dtype

Place = Callable[[np.ndarray], Any]
"""Makes an array of the library from a NumPy array, on the device under test."""


def rounded(arguments: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Round every float64 array to the dtype under test."""
    return {name: _map(value, lambda a: a.astype(as_dtype(dtype))) for name, value in arguments.items()}


def widened(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the rounded arrays in float64 again: the inputs of the truth."""
    return {name: _map(value, lambda a: a.astype(np.float64)) for name, value in arguments.items()}


def _map(value: Any, fn: Callable[[np.ndarray], np.ndarray]) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], (Rows, Dense)):
        return [_map(item, fn) for item in value]
    if isinstance(value, Dense):
        return Dense(fn(value.values)) if is_float(value.values) else value
    if isinstance(value, Rows):
        return replace(value, values=fn(value.values)) if is_float(value.values) else value
    return value


def is_float(a: np.ndarray) -> bool:
    """Tell whether an array is floating point, bfloat16 included."""
    return a.dtype.kind == "f" or a.dtype.name == "bfloat16"


def placed(arguments: dict[str, Any], place: Place) -> dict[str, Any]:
    """Turn ``Rows`` into Arrays and ``Dense`` into arrays of the library."""
    out: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, list) and value and isinstance(value[0], (Rows, Dense)):
            out[name] = [_place_one(item, place, out) for item in value]
        else:
            out[name] = _place_one(value, place, out)
    return out


def _place_one(value: Any, place: Place, earlier: dict[str, Any]) -> Any:
    if isinstance(value, Dense):
        return place(value.values)
    if isinstance(value, Rows):
        return _place_rows(value, place, earlier)
    return value


def _place_rows(rows: Rows, place: Place, earlier: dict[str, Any]) -> Array[Any]:
    # An Array's ragged axis is moved where the case wants it; cases give values with that axis first.
    values = np.moveaxis(rows.values, 0, rows.ragged_dim)
    if rows.strided:
        wide = np.repeat(np.ascontiguousarray(values), 2, axis=-1)
        wide[..., 1::2] = np.nan if is_float(values) else 0
        array = place(wide)[..., ::2]
    else:
        array = place(np.ascontiguousarray(values))
    if rows.share is not None:
        return Array(array, earlier[rows.share].offsets, rows.ragged_dim, tail=rows.tail > 0)
    host = offsets_from_lengths(np.asarray(rows.lengths, np.int64)).astype(rows.offsets_dtype)
    lengths = np.asarray(rows.lengths, np.int64)
    return Array(
        array,
        place(host),
        rows.ragged_dim,
        max_length=int(lengths.max(initial=0)),
        min_length=int(lengths.min(initial=2**31)) if lengths.size else 0,
        tail=rows.tail > 0,
    )


def float_leaves(argument: Any) -> list[Any]:
    """Return the raw arrays of a placed argument that gradients are taken of."""
    items = argument if isinstance(argument, list) else [argument]
    return [item.values if isinstance(item, Array) else item for item in items if item is not None]


def replaced(argument: Any, leaves: list[Any]) -> Any:
    """Return a placed argument with other raw arrays in place of its own; takes them off the list."""
    if argument is None:
        return None
    if isinstance(argument, list):
        return [replaced(item, leaves) for item in argument]
    if isinstance(argument, Array):
        return Array.trusted(leaves.pop(0), argument.layout, argument.ragged_dim)
    return leaves.pop(0)


def layouts(arguments: dict[str, Any]) -> list[Layout[Any]]:
    """Return the layouts of the Arrays among placed arguments."""
    items = [i for v in arguments.values() for i in (v if isinstance(v, list) else [v])]
    return [item.layout for item in items if isinstance(item, Array)]
