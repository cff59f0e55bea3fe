"""A list of arrays to one Array, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scree_core.array import Array, checked_axis
from scree_core.dispatch import Call, common_candidates, elsewhere, run
from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.protocols import ArrayT
from scree_core.registry import backend_of


def pack(arrays: Sequence[ArrayT], ragged_dim: int = 0, *, backend: str | None = None) -> Array[ArrayT]:
    """Join a list of arrays into one Array, each becoming a row.

    Parameters
    ----------
    arrays : sequence of arrays
        Of one library, dtype and device, and equal shapes but for ``ragged_dim``. Lengths may be 0.
    ragged_dim : int, default 0
        The axis along which they are joined; negative counts from the end.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array
        With offsets int32, or int64 past 2**31 - 1 elements, on the device of the arrays, and exact
        ``max_length`` and ``min_length``.

    Raises
    ------
    ShapeError
        The list is empty, or an array differs in dtype, number of axes or features; the message names
        its index.
    ArgumentTypeError
        An element is no array, or of another library than the first.

    Notes
    -----
    One copy of all elements, and one transfer of the offsets; no sync.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.pack([np.ones((2, 4)), np.zeros((3, 4))])
    scree.Array(batch_size=2, total_length=5, feature_shape=(4,), dtype=float64)
    """
    arrays = list(arrays)
    ragged_dim = _check(arrays, ragged_dim)
    owner = backend_of(arrays[0])
    front = arrays if ragged_dim == 0 else [owner.xp.moveaxis(a, ragged_dim, 0) for a in arrays]
    values = run(Call("pack", (front,), {}, {"arrays[0]": arrays[0]}), backend)
    if ragged_dim != 0:
        values = owner.xp.moveaxis(values, 0, ragged_dim)
    layout = owner.layout_from_lengths([a.shape[ragged_dim] for a in arrays], like=arrays[0])
    return Array.trusted(values, layout, ragged_dim)


def _check(arrays: list[Any], ragged_dim: int) -> int:
    if not arrays:
        raise ShapeError(
            "can't pack an empty list: dtype and features are unknown; for a batch of no rows use "
            "scree.from_lengths(values[:0], [])"
        )
    first = arrays[0]
    _check_array(first, 0)
    owner, kind = backend_of(first), type(first)
    for i, a in enumerate(arrays):
        if type(a) is not kind:
            _check_array(a, i)
            if not owner.owns(a):
                raise ArgumentTypeError(
                    f"arrays[{i}] is a {type(a).__name__}, arrays[0] a {kind.__name__}; pack arrays of one library"
                )
        if not owner.beside(first, a):
            raise ShapeError(elsewhere(owner, "arrays[0]", first, f"arrays[{i}]", a))
    ndim = len(first.shape)
    if ndim < 1:
        raise ShapeError("arrays[0] must be at least 1-D")
    ragged_dim = checked_axis(ragged_dim, ndim)
    check_features(arrays, ragged_dim, "arrays")
    return ragged_dim


def _check_array(a: Any, i: int) -> None:
    if isinstance(a, Array):
        raise ArgumentTypeError(f"arrays[{i}] is a scree.Array already; join batches with scree.concat")
    if not hasattr(a, "shape") or not hasattr(a, "dtype"):
        raise ArgumentTypeError(
            f"arrays[{i}] must be an array, got {type(a).__name__}; convert it first, say with numpy.asarray"
        )


def check_features(arrays: Sequence[Any], ragged_dim: int, name: str) -> None:
    """Check that arrays differ only in their length along ``ragged_dim``; the error names the first that doesn't."""
    first = arrays[0]
    ndim, dtype = len(first.shape), first.dtype
    before, after = first.shape[:ragged_dim], first.shape[ragged_dim + 1 :]
    for i, a in enumerate(arrays):
        shape = a.shape  # once: there may be thousands of arrays, and PyTorch makes a new one each time
        if len(shape) != ndim:
            raise ShapeError(f"{name}[{i}] is {len(shape)}-D, {name}[0] is {ndim}-D")
        if a.dtype != dtype:
            common_candidates({f"{name}[0]": first, f"{name}[{i}]": a})  # of two libraries no two dtypes are equal
            raise ShapeError(f"{name}[{i}] has dtype {a.dtype}, {name}[0] has {dtype}; cast them to one dtype")
        if shape[ragged_dim + 1 :] != after or (ragged_dim and shape[:ragged_dim] != before):
            raise ShapeError(
                f"{name}[{i}] has shape {tuple(shape)}, {name}[0] has {tuple(first.shape)}: "
                f"they may differ along axis {ragged_dim} alone"
            )


def unpack(arr: Array[ArrayT]) -> list[ArrayT]:
    """Return the rows of an Array as a list.

    Parameters
    ----------
    arr : Array

    Returns
    -------
    list of arrays
        Row ``i`` has ``lengths[i]`` elements along ``arr.ragged_dim``: a view of the values, as far as
        the library has views (NumPy, torch).

    Notes
    -----
    Reads the offsets on the host, which syncs a device once for each layout. No copy where rows are views.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.unpack(scree.from_lengths(np.arange(3), [1, 2]))
    [array([0]), array([1, 2])]
    """
    if not isinstance(arr, Array):
        raise ArgumentTypeError(f"arr must be a scree.Array, got {type(arr).__name__}")
    return list(arr)
