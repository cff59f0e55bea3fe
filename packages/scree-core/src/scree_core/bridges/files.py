"""Arrays in files that any reader of ``.safetensors`` or ``.npz`` opens, each layout stored once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scree_core import registry
from scree_core.array import Array
from scree_core.backend import Backend
from scree_core.bridges import npz, safetensors
from scree_core.bridges.manifest import LayoutEntry, Manifest, describe, read_manifest
from scree_core.bridges.numpy import to_numpy
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.layout import Layout, check_total

KINDS = {".safetensors": safetensors, ".npz": npz}
"""Of each suffix the module that knows its files: ``DTYPES``, ``write``, ``read``."""


def save(path: str | os.PathLike[str], arrays: Array[Any] | Mapping[str, Array[Any]]) -> None:
    """Write an Array, or several by name, to a file.

    Parameters
    ----------
    path : path
        Its suffix chooses the kind of file: ``.safetensors``, which needs the library of this name, or ``.npz``,
        NumPy's. The folder has to be there; a file of this name is replaced.
    arrays : Array, or mapping of str to Array
        Of any library. Arrays with equal offsets are stored with one tensor of them, and share a layout when loaded.

    Raises
    ------
    ArgumentError
        Another suffix, or a name that is empty or not printable.
    ArgumentTypeError
        Something is no ``scree.Array``, or a name no string.
    ShapeError
        A dtype that such files can't hold, or offsets, which only the device knew until now, that break an
        invariant of ``scree.Array``.
    BackendNotInstalledError
        The library safetensors isn't installed.
    UnsupportedError
        Values of bfloat16, and ml_dtypes isn't installed.

    Notes
    -----
    A reader without scree finds the packed values as ``values`` and the row boundaries as ``offsets``; of a mapping
    ``NAME.values``, and ``offsets.0``, ``offsets.1``... The entry ``scree`` (in safetensors among the metadata) says
    as JSON which offsets go with which values, and ``ragged_dim``, tail and length hints. NumPy has no bfloat16, so in
    an ``.npz`` such values are their bits as uint16.

    The file appears whole or not at all: it is written under another name beside its place, flushed to the disk,
    and renamed. Arrays of a device are read, one sync for each; values are copied only where they aren't
    contiguous. Gradients aren't kept.

    Examples
    --------
    >>> import numpy as np, scree, tempfile
    >>> arr = scree.from_lengths(np.arange(3.0), [1, 2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scree.bridges.save(f"{folder}/batch.npz", {"x": arr, "y": arr * 2})
    ...     found = scree.bridges.load(f"{folder}/batch.npz")
    >>> found["y"].values.tolist(), found["y"].layout is found["x"].layout
    ([0.0, 2.0, 4.0], True)
    """
    kind = _kind(path)
    kind.check_installed()
    named = {name: to_numpy(arr) for name, arr in _named(arrays).items()}
    for name, arr in named.items():
        if arr.values.dtype.name not in kind.DTYPES:
            whose = "values" if name is None else f"values of {name!r}"
            raise ShapeError(
                f"a {Path(path).suffix} file can't hold {whose} of dtype {arr.values.dtype}; cast them first"
            )
    manifest, tensors = describe(named)
    _replace(Path(path), lambda temporary: kind.write(temporary, tensors, manifest))


def load(path: str | os.PathLike[str], *, backend: str | None = None) -> Any:
    """Read what ``save`` has written.

    Parameters
    ----------
    path : path
        A ``.safetensors`` or ``.npz`` file.
    backend : str, optional
        Name of the library that the arrays shall be of, such as ``"torch"``, on its usual device; by default NumPy.

    Returns
    -------
    Array or dict of str to Array
        Whichever was saved, in its order. Dtypes, those of the offsets too, ``ragged_dim``, tails and length hints are
        kept, but JAX without x64 has int32 for int64; Arrays with one tensor of offsets share a layout.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ArgumentError
        Another suffix; or the file is cut off or damaged, wasn't written by ``save``, or by a newer scree.
    ShapeError
        Offsets and values in it don't fit together; or JAX without x64 can't hold the dtype.
    BackendNotInstalledError
        No such backend is installed, or not the library safetensors, or not ml_dtypes, which bfloat16 needs.

    Notes
    -----
    The file is read whole, and every offset checked. Nothing in it is ever run: no pickles. An ``.npz`` has
    checksums, so a flipped bit is found; ``.safetensors`` has none, so there only lost bytes and wrong offsets are.
    """
    kind = _kind(path)
    owner = _owner(backend)
    kind.check_installed()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    manifest, tensors = read_manifest(path, *kind.read(path))
    try:
        return _arrays(manifest, tensors, owner)
    except ShapeError as error:
        raise ShapeError(f"{path}: {error}") from error


def _kind(path: Any) -> Any:
    try:
        suffix = Path(path).suffix.lower()
    except TypeError:
        raise ArgumentTypeError(f"path must be a path, got {type(path).__name__}") from None
    if suffix not in KINDS:
        raise ArgumentError(f"the suffix of {str(path)!r} must be {' or '.join(KINDS)}, got {suffix or 'none'!r}")
    return KINDS[suffix]


def _named(arrays: Any) -> dict[str | None, Array[Any]]:
    """Return Arrays by name; one that is saved by itself has none."""
    if isinstance(arrays, Array):
        return {None: arrays}
    if not isinstance(arrays, Mapping):
        raise ArgumentTypeError(
            f"arrays must be a scree.Array or a mapping of names to them, got {type(arrays).__name__}"
        )
    for name, arr in arrays.items():
        if not isinstance(name, str):
            raise ArgumentTypeError(f"names must be strings, got {name!r}")
        # A zip file cuts names at a NUL, and turns backslashes on some systems.
        if not name or not name.isprintable() or "\\" in name:
            raise ArgumentError(f"a name must be printable, not empty, and without backslashes, got {name!r}")
        if not isinstance(arr, Array):
            raise ArgumentTypeError(f"arrays[{name!r}] must be a scree.Array, got {type(arr).__name__}")
    return dict(arrays)


def _owner(name: str | None) -> Backend[Any]:
    name = "numpy" if name is None else name
    owner = registry.load(name)
    if not isinstance(owner, Backend):
        raise ArgumentError(f"backend must name a library of arrays, got {name!r}; for this one {name.split('.')[0]!r}")
    return owner


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Have a file written beside its place, and put it there once it is whole."""
    temporary = path.with_name(f".scree-{secrets.token_hex(8)}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _arrays(manifest: Manifest, tensors: dict[str, np.ndarray], owner: Backend[Any]) -> Any:
    layouts = [_layout(entry, tensors[entry.offsets], owner) for entry in manifest.layouts]
    found = {}
    for entry in manifest.arrays:
        values, layout = tensors[entry.values], layouts[entry.layout]
        if entry.ragged_dim >= values.ndim:
            raise ShapeError(f"{entry.values} has {values.ndim} axes, but ragged_dim={entry.ragged_dim}")
        total = values.shape[entry.ragged_dim]
        check_total(
            tensors[manifest.layouts[entry.layout].offsets], total, f"the length of {entry.values}", layout.tail
        )
        if layout.total is None:
            layout.learn_total(total)
        elif layout.total != total:
            raise ShapeError(f"{entry.values} has {total} elements, others of its layout have {layout.total}")
        found[entry.name] = Array.trusted(owner.from_numpy(values), layout, entry.ragged_dim)
    return found.get(None, found)


def _layout(entry: LayoutEntry, offsets: np.ndarray, owner: Backend[Any]) -> Layout[Any]:
    hints = {"max_length": entry.max_length, "min_length": entry.min_length}
    Layout(offsets, tail=entry.tail, **hints)  # which checks, but would measure what `bucket` left unsaid
    return Layout.trusted(owner.from_numpy(offsets), host=offsets, tail=entry.tail, **hints)
