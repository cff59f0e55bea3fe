"""Rows of an Array: one as a view, several as a new Array."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index as as_int
from typing import TYPE_CHECKING, Any

import numpy as np

from scree_core.dispatch import Call, run
from scree_core.layout import offsets_from_lengths

if TYPE_CHECKING:
    from scree_core.array.type import Array


def iterate(arr: Array[Any]) -> Iterator[Any]:
    """Yield each row as a view."""
    yield from arr.backend.split(arr.values, arr.backend.host_offsets(arr.layout).tolist(), arr.ragged_dim)


def select(arr: Array[Any], index: Any) -> Any:
    """Return the row or rows that an index asks for."""
    if isinstance(index, slice):
        start, stop, step = index.indices(len(arr))
        if step == 1:
            return _span(arr, start, max(start, stop))
        return _gather(arr, np.arange(start, stop, step))
    if _is_integer(index):
        return _row(arr, as_int(index))
    return _gather(arr, _row_numbers(arr, index))


def _is_integer(index: Any) -> bool:
    """Tell whether an index is one row number: an integer or an integer array without axes, of any library."""
    if isinstance(index, (bool, np.bool_, list)) or getattr(index, "shape", ()) != ():
        return False
    try:
        as_int(index)
    except Exception:
        return False
    return "bool" not in str(getattr(index, "dtype", ""))


def _row(arr: Array[Any], i: int) -> Any:
    if not -len(arr) <= i < len(arr):
        raise IndexError(f"row {i} is out of range for a batch of {len(arr)}")
    i %= len(arr)
    host = arr.backend.host_offsets(arr.layout)
    return _cutter(arr)(int(host[i]), int(host[i + 1]))


def _cutter(arr: Array[Any]) -> Any:
    before = (slice(None),) * arr.ragged_dim
    return lambda start, stop: arr.values[(*before, slice(start, stop), ...)]


def _span(arr: Array[Any], first: int, last: int) -> Array[Any]:
    """Rows ``first`` up to ``last``, whose elements lie together: a view of the values."""
    backend = arr.backend
    host = backend.host_offsets(arr.layout)[first : last + 1]
    values = _cutter(arr)(int(host[0]), int(host[-1]))
    return type(arr).trusted(values, backend.layout_from_host(host - host[0], like=arr.offsets), arr.ragged_dim)


def _gather(arr: Array[Any], numbers: np.ndarray) -> Array[Any]:
    """Rows by number, in any order and any number of times: one gather of their elements."""
    backend = arr.backend
    host = backend.host_offsets(arr.layout)
    starts, lengths = host[:-1][numbers], np.diff(host)[numbers]
    offsets = offsets_from_lengths(lengths)
    if host.dtype.itemsize > offsets.dtype.itemsize:
        offsets = offsets.astype(host.dtype)
    # Element j of the result sits as far from its row's start there as in the source.
    elements = np.repeat(starts.astype(np.int64) - offsets[:-1], lengths) + np.arange(offsets[-1])
    front = arr.values if arr.ragged_dim == 0 else backend.xp.moveaxis(arr.values, arr.ragged_dim, 0)
    taken = run(Call("take_rows", (front, elements), {}, {"arr": arr.values}))
    values = taken if arr.ragged_dim == 0 else backend.xp.moveaxis(taken, 0, arr.ragged_dim)
    return type(arr).trusted(values, backend.layout_from_host(offsets, like=arr.offsets), arr.ragged_dim)


def _row_numbers(arr: Array[Any], index: Any) -> np.ndarray:
    """Turn a list or array of row numbers, or a mask over rows, into valid non-negative row numbers."""
    host = _index_to_numpy(arr, index)
    if host is None or host.ndim == 0:
        raise IndexError(
            f"a scree.Array is indexed by rows alone, got {index!r}; give an integer, a slice, a list or 1-D array of "
            "integers, or a mask; for features use arr.with_values(arr.values[...])"
        )
    if host.ndim != 1:
        raise IndexError(f"rows are selected by a 1-D list or array, got {host.ndim}-D")
    if host.dtype == bool:
        if host.shape[0] != len(arr):
            raise IndexError(f"a mask over rows needs {len(arr)} elements, got {host.shape[0]}")
        return np.flatnonzero(host)
    if host.size == 0:
        return np.zeros(0, np.int64)
    if host.dtype.kind not in "iu":
        raise IndexError(f"rows are selected by integers or a boolean mask, got {host.dtype}")
    wrong = (host < -len(arr)) | (host >= len(arr))
    if wrong.any():
        raise IndexError(f"row {host[int(wrong.argmax())]} is out of range for a batch of {len(arr)}")
    return host.astype(np.int64) % max(1, len(arr))


def _index_to_numpy(arr: Array[Any], index: Any) -> np.ndarray | None:
    if isinstance(index, np.ndarray):
        return index
    if arr.backend.owns(index):
        return arr.backend.to_numpy(index)
    if not isinstance(index, (list, range)) and not hasattr(index, "dtype"):
        return None
    try:
        return np.asarray(index)
    except Exception:
        return None
