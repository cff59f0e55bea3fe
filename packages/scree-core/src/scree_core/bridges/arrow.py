"""Apache Arrow's list arrays, which lie in memory as an Array does."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from scree_core.arguments import INTEGER_DTYPES
from scree_core.array import Array
from scree_core.bridges.host_rows import host_rows
from scree_core.bridges.library import library
from scree_core.errors import ArgumentTypeError, ShapeError

NUMBERS = ("bool", *INTEGER_DTYPES, "float16", "float32", "float64")
"""The dtypes that NumPy and Arrow have in common, of those that an Array computes with."""


def to_arrow(arr: Array[Any]) -> Any:
    """Return the rows as an Arrow array of lists.

    Parameters
    ----------
    arr : Array
        Of bool, integers, float16, float32 or float64; those of other libraries go through ``to_numpy``.

    Returns
    -------
    pyarrow.ListArray or pyarrow.LargeListArray
        A list for each row: ``ListArray`` for int32 offsets, ``LargeListArray`` for int64. Each axis of features is a
        ``FixedSizeList`` within.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.
    ShapeError
        Arrow has no such dtype (bfloat16, complex numbers), or ``ragged_dim`` isn't 0.
    BackendNotInstalledError
        PyArrow isn't installed.

    Notes
    -----
    Shares values and offsets with a NumPy Array: don't write to them afterwards, since Arrow takes them for
    immutable. Copied are bool values, which Arrow packs into bits, and arrays that aren't contiguous, aligned and of
    native byte order. A tail is left out. Gradients stop, and a device syncs, as in ``to_numpy``.
    """
    values, offsets = host_rows(arr)
    dtype = str(values.dtype)
    if dtype not in NUMBERS:
        mend = "; cast first, say arr.astype('float32')" if dtype.startswith(("bfloat", "float")) else ""
        raise ShapeError(f"Arrow can't hold values of dtype {dtype}{mend}")
    pa = library("pyarrow", "to_arrow", "pyarrow")
    items = pa.array(values.reshape(-1))
    for axis in range(values.ndim - 1, 0, -1):
        # FixedSizeListArray.from_arrays takes no lists of size 0, and can't know how many there are.
        fixed = pa.list_(items.type, values.shape[axis])
        items = pa.Array.from_buffers(fixed, prod(values.shape[:axis]), [None], children=[items])
    kind = pa.ListArray if offsets.dtype == np.int32 else pa.LargeListArray
    return kind.from_arrays(pa.array(offsets), items)


def from_arrow(lists: Any) -> Array[np.ndarray]:
    """Return an Arrow array of lists as an Array of NumPy arrays.

    Parameters
    ----------
    lists : pyarrow.ListArray, pyarrow.LargeListArray, or pyarrow.ChunkedArray of one chunk
        Lists of bool, integers, float16, float32 or float64, or of ``FixedSizeList`` of such, to any depth. It may
        be a slice of a longer array.

    Returns
    -------
    Array
        Offsets are int32 for a ``ListArray``, int64 for a ``LargeListArray``.

    Raises
    ------
    ArgumentTypeError
        It is no Arrow array of lists: another type, list views, or rows that are all of one size.
    ShapeError
        A row or an element is null; the message has its number. Or elements are of a type that NumPy hasn't, or lists
        of unequal length themselves; or there are several chunks; or the array is invalid.
    BackendNotInstalledError
        PyArrow isn't installed.

    Notes
    -----
    Shares Arrow's memory, which NumPy sees as read-only. Copied are bool values, which Arrow packs into bits, and
    the offsets of a slice that doesn't start with the first element, ``4`` or ``8 * (batch + 1)`` bytes.

    Several chunks lie apart in memory, so they need a copy, which is left to you: ``from_arrow(c.combine_chunks())``,
    or without one ``[from_arrow(chunk) for chunk in c.chunks]``.
    """
    pa = library("pyarrow", "from_arrow", "pyarrow")
    return array_of_lists(pa, _one_chunk(pa, lists) if isinstance(lists, pa.ChunkedArray) else lists)


def array_of_lists(pa: Any, lists: Any, first_row: int = 0) -> Array[np.ndarray]:
    """Return one Arrow array of lists as an Array; messages count rows from ``first_row``."""
    if not isinstance(lists, pa.Array):
        raise ArgumentTypeError(
            f"lists must be a pyarrow.ListArray or LargeListArray, got {type(lists).__name__}; "
            "of a table take one column: table.column('tokens')"
        )
    check_lists(pa, lists.type)
    try:
        lists.validate()
    except pa.ArrowInvalid as error:
        raise ShapeError(f"lists isn't a valid Arrow array: {error}") from None
    if lists.null_count:
        raise ShapeError(
            f"row {first_row + _first_null(lists)} is null, and an Array has no nulls; "
            "leave such rows out with lists.drop_null()"
        )
    offsets, items = _boundaries(pa, lists)
    shape = [len(items)]
    while True:
        if items.null_count:
            element = _first_null(items) // prod(shape[1:])
            row = first_row + int(np.searchsorted(offsets, element, side="right")) - 1
            raise ShapeError(
                f"element {element} (in row {row}) is null or holds a null, and an Array has no nulls; "
                "fill them in Arrow first"
            )
        if not pa.types.is_fixed_size_list(items.type):
            break
        size, start, count = items.type.list_size, items.offset, len(items)
        shape.append(size)
        items = items.values.slice(start * size, count * size)
    values = items.to_numpy(zero_copy_only=not pa.types.is_boolean(items.type))
    return Array(values.reshape(shape), offsets)


def check_lists(pa: Any, kind: Any) -> None:
    """Check that an Arrow type is lists of numbers, or of fixed-size lists of numbers."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        mend = ""
        if pa.types.is_fixed_size_list(kind):
            mend = "; rows of one size become lists with lists.cast(pyarrow.list_(lists.type.value_type))"
        elif isinstance(kind, pa.BaseExtensionType):
            mend = "; look at what it stores: lists.storage"
        elif pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
            mend = (
                "; list views may overlap or have holes, so copy their rows: "
                "scree.from_lengths(lists.flatten().to_numpy(), lists.sizes.to_numpy())"
            )
        raise ArgumentTypeError(f"lists must be of Arrow type list or large_list, got {kind}{mend}")
    inner = kind.value_type
    while pa.types.is_fixed_size_list(inner):
        inner = inner.value_type
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)
    if any(is_one(inner) for is_one in is_list):
        raise ShapeError(
            f"lists are of type {kind}, but an Array has one ragged axis: lists of lists can't be rows, "
            "unless the inner ones are of one size and cast to a fixed_size_list"
        )
    if not (pa.types.is_boolean(inner) or pa.types.is_integer(inner) or pa.types.is_floating(inner)):
        raise ShapeError(f"lists hold {inner}, but an Array holds numbers or bool; cast or encode them in Arrow first")


def _boundaries(pa: Any, lists: Any) -> tuple[np.ndarray, Any]:
    """Return offsets that start at 0, and the elements they bound, without what lies before and behind."""
    if len(lists) == 0:  # which may have no offsets at all
        empty = np.zeros(1, np.int32 if pa.types.is_list(lists.type) else np.int64)
        return empty, lists.values.slice(0, 0)
    offsets = lists.offsets.to_numpy()
    first = int(offsets[0])
    if first:
        offsets = offsets - offsets[0]
    return offsets, lists.values.slice(first, int(offsets[-1]))


def _first_null(array: Any) -> int:
    return int(array.is_null().to_numpy(zero_copy_only=False).argmax())


def _one_chunk(pa: Any, chunked: Any) -> Any:
    check_lists(pa, chunked.type)
    if chunked.num_chunks > 1:
        raise ShapeError(
            f"lists has {chunked.num_chunks} chunks, which lie apart in memory; copy them together with "
            "lists.combine_chunks(), or make an Array of each of lists.chunks"
        )
    return chunked.chunk(0) if chunked.num_chunks else pa.array([], type=chunked.type)
