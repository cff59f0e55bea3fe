"""What a file says of the tensors in it: which are values, which offsets, and how the Arrays lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scree_core.array import Array
from scree_core.errors import ArgumentError

FORMAT = 1
"""Version of the files that are written; those of a higher one aren't read."""


class ArrayEntry(NamedTuple):
    """An Array: its name, None where it is the only thing saved; its tensor; the number of its layout."""

    name: str | None
    values: str
    dtype: str
    layout: int
    ragged_dim: int


class LayoutEntry(NamedTuple):
    """A layout: its tensor of offsets, whether there is a tail, and bounds of the row lengths."""

    offsets: str
    tail: bool
    max_length: int | None
    min_length: int | None


class Manifest(NamedTuple):
    """All Arrays of a file, in order, and the layouts that they share."""

    arrays: list[ArrayEntry]
    layouts: list[LayoutEntry]

    def to_json(self) -> str:
        """Return the text for the file."""
        arrays, layouts = ([entry._asdict() for entry in entries] for entries in self)
        return json.dumps({"format": FORMAT, "arrays": arrays, "layouts": layouts})


def describe(arrays: dict[str | None, Array[np.ndarray]]) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Return the manifest of Arrays and the tensors it names, contiguous and in this machine's byte order."""
    manifest, tensors, numbers = Manifest([], []), {}, {}
    alone = None in arrays
    for name, arr in arrays.items():
        layout = arr.layout
        hints = (layout.tail, layout.max_length, layout.min_length)
        key = (layout.offsets.dtype.name, layout.offsets.tobytes(), arr.total_length, *hints)
        number = numbers.setdefault(key, len(manifest.layouts))
        if number == len(manifest.layouts):
            offsets = "offsets" if alone else f"offsets.{number}"
            manifest.layouts.append(LayoutEntry(offsets, *hints))
            tensors[offsets] = _plain(layout.offsets)
        values = "values" if alone else f"{name}.values"
        manifest.arrays.append(ArrayEntry(name, values, arr.values.dtype.name, number, arr.ragged_dim))
        tensors[values] = _plain(arr.values)
    return manifest, tensors


def _plain(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(a, a.dtype.newbyteorder("="))


def read_manifest(
    path: Path, text: str | None, tensors: dict[str, np.ndarray]
) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Return the manifest of a file, after checking that it is one and that the tensors it names are there."""
    if text is None:
        raise ArgumentError(
            f"{path} wasn't written by scree.bridges.save: it has no entry 'scree', only "
            f"{', '.join(sorted(tensors)) or 'nothing'}; wrap values and offsets from it with scree.Array"
        )
    try:
        found = json.loads(text)
        version = found["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path, "it isn't the JSON that save writes") from error
    if type(version) is not int or version < 1:
        raise _damaged(path, f"its format is {version!r}")
    if version > FORMAT:
        raise ArgumentError(f"{path} is of format {version}, this scree reads up to {FORMAT}; upgrade scree")
    try:
        manifest = Manifest(
            [ArrayEntry(**entry) for entry in found["arrays"]], [LayoutEntry(**entry) for entry in found["layouts"]]
        )
    except (TypeError, KeyError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    _check(path, manifest, tensors)
    return manifest, tensors


def _check(path: Path, manifest: Manifest, tensors: dict[str, np.ndarray]) -> None:
    names = [entry.name for entry in manifest.arrays]
    if len(set(map(repr, names))) != len(names) or (None in names and len(names) > 1):
        raise _damaged(path, f"its names are {names}")
    for entry in manifest.layouts:
        hints = (entry.max_length, entry.min_length)
        if type(entry.tail) is not bool or not all(hint is None or _is_count(hint) for hint in hints):
            raise _damaged(path, f"a layout is {entry}")
        _check_there(path, entry.offsets, tensors)
    for entry in manifest.arrays:
        named = entry.name is None or isinstance(entry.name, str)
        if not (named and _is_count(entry.ragged_dim) and _is_count(entry.layout)):
            raise _damaged(path, f"an array is {entry}")
        if entry.layout >= len(manifest.layouts):
            raise _damaged(path, f"there is no layout {entry.layout}")
        _check_there(path, entry.values, tensors)
        if tensors[entry.values].dtype.name != entry.dtype:
            raise _damaged(path, f"{entry.values} is {tensors[entry.values].dtype.name}, not {entry.dtype}")


def _check_there(path: Path, name: Any, tensors: dict[str, np.ndarray]) -> None:
    if not isinstance(name, str) or name not in tensors:
        raise _damaged(path, f"there is no tensor {name!r}")


def _is_count(x: Any) -> bool:
    return type(x) is int and x >= 0


def _damaged(path: Path, why: str) -> ArgumentError:
    return ArgumentError(f"the entry 'scree' of {path} is damaged: {why}; save the file anew")
