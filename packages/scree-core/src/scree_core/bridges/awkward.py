"""Awkward Arrays, of which those with one ragged axis lie in memory as an Array does."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from scree_core.array import Array
from scree_core.bridges.host_rows import host_rows
from scree_core.bridges.library import library
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError


def to_awkward(arr: Array[Any]) -> Any:
    """Return the rows as an Awkward Array of type ``batch * var * features * dtype``.

    Parameters
    ----------
    arr : Array
        Those of other libraries go through ``to_numpy``.

    Returns
    -------
    awkward.Array
        A ``ListOffsetArray`` for the rows, with offsets of the same dtype, and a ``RegularArray`` for each axis of
        features.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.
    ShapeError
        Awkward has no such dtype (bfloat16), or ``ragged_dim`` isn't 0.
    BackendNotInstalledError
        Awkward isn't installed.

    Notes
    -----
    Shares values and offsets with a NumPy Array: writing to one side shows on the other. Copied are arrays that
    aren't contiguous, aligned and of native byte order. A tail is left out. Gradients stop, and a device syncs, as
    in ``to_numpy``.
    """
    values, offsets = host_rows(arr)
    ak = library("awkward", "to_awkward", "awkward")
    try:
        content = ak.contents.NumpyArray(values.reshape(-1))
    except TypeError:
        raise ShapeError(
            f"Awkward can't hold values of dtype {values.dtype}; cast first, say arr.astype('float32')"
        ) from None
    for axis in range(values.ndim - 1, 0, -1):
        content = ak.contents.RegularArray(content, values.shape[axis], zeros_length=prod(values.shape[:axis]))
    kind = ak.index.Index32 if offsets.dtype == np.int32 else ak.index.Index64
    return ak.Array(ak.contents.ListOffsetArray(kind(offsets), content))


def from_awkward(rows: Any) -> Array[np.ndarray]:
    """Return an Awkward Array with one ragged axis as an Array of NumPy arrays.

    Parameters
    ----------
    rows : awkward.Array or awkward.contents.Content
        Of type ``batch * var * features * dtype``, with any number of features, in host memory. Its type may allow
        None where none is.

    Returns
    -------
    Array
        Offsets are int32 where Awkward's are, else int64. Behaviours and attributes stay behind.

    Raises
    ------
    ArgumentTypeError
        It is no Awkward Array, or none of lists: numbers, records, strings, or rows that are all of one size.
    ArgumentError
        It isn't in host memory.
    ShapeError
        A row or an element is None; the message has its number. Or elements aren't numbers of one type and shape:
        strings, records, unions, lists of unequal length; or offsets are wrong.
    BackendNotInstalledError
        Awkward isn't installed.

    Notes
    -----
    Shares Awkward's memory: writing to one side shows on the other. Copied are the offsets of a slice that doesn't
    start with the first element, offsets of uint32, and whatever doesn't lie end to end: rows that were picked or
    reordered (Awkward's ``ListArray``), indexed ones, and those of a type that allows None.
    """
    ak = library("awkward", "from_awkward", "awkward")
    layout = _present(_layout_in_host_memory(ak, rows), "row {}")
    _check_rows(layout)
    if isinstance(layout, ak.contents.ListArray):
        layout = layout.to_ListOffsetArray64(True)
    offsets, content = _boundaries(layout)
    shape = [content.length]
    while True:
        content = _present(content, "element {}", prod(shape[1:]))
        _check_elements(content)
        if content.is_numpy:
            values = np.asarray(content.data)
            return Array(values.reshape(*shape, *values.shape[1:]), offsets)
        shape.append(content.size)
        content = content.content[: prod(shape)]


def _layout_in_host_memory(ak: Any, rows: Any) -> Any:
    if not isinstance(rows, (ak.Array, ak.contents.Content)):
        mend = "" if not isinstance(rows, (list, np.ndarray)) else "; for a list of arrays use scree.pack"
        raise ArgumentTypeError(f"rows must be an awkward.Array, got {type(rows).__name__}{mend}")
    if (backend := ak.backend(rows)) != "cpu":
        raise ArgumentError(f"rows are on Awkward's backend {backend!r}; use awkward.to_backend(rows, 'cpu')")
    return rows.layout if isinstance(rows, ak.Array) else rows


def _present(layout: Any, name: str, each: int = 1) -> Any:
    """Return a layout without indices and without options, after checking that nothing is None."""
    while layout.is_indexed or layout.is_option:
        if layout.parameter("__array__") == "categorical":
            break  # which the checks of types refuse
        if layout.is_option:
            missing = np.asarray(layout.mask_as_bool(valid_when=False))
            if missing.any():
                where = name.format(int(missing.argmax()) // each)
                raise ShapeError(
                    f"{where} is None or holds one, and an Array has no missing values; leave them out with "
                    "awkward.drop_none(rows), or fill them with awkward.fill_none"
                )
        layout = layout.project()
    return layout


def _check_rows(layout: Any) -> None:
    if layout.is_list and not layout.is_regular and layout.parameter("__array__") is None:
        return
    mend = "; an Array holds lists of numbers"
    if layout.is_record:
        mend = "; take one field, such as rows['tokens']"
    elif layout.is_regular or (layout.is_numpy and layout.purelist_depth > 1):
        mend = "; rows of one size become lists with awkward.from_regular(rows, axis=1)"
    elif layout.is_unknown:
        mend = "; give it a type, such as awkward.enforce_type(rows, 'var * float64')"
    raise ArgumentTypeError(f"rows must be lists, got Awkward type {layout.form.type}{mend}")


def _check_elements(content: Any) -> None:
    if (content.is_numpy or content.is_regular) and content.parameter("__array__") is None:
        return
    mend = "; an Array holds numbers of one type"
    if content.is_record:
        mend = "; take one field, such as rows['tokens']"
    elif content.is_list and content.parameter("__array__") is None:
        mend = "; an Array has one ragged axis, so make the inner ones regular with awkward.to_regular(rows, axis=2)"
    elif content.is_unknown:
        mend = "; give them a type, such as awkward.enforce_type(rows, 'var * float64')"
    raise ShapeError(f"rows hold elements of Awkward type {content.form.type}{mend}")


def _boundaries(layout: Any) -> tuple[np.ndarray, Any]:
    """Return offsets that start at 0, and the elements they bound, without what lies before and behind."""
    offsets = np.asarray(layout.offsets.data)
    if offsets.dtype not in (np.int32, np.int64):
        offsets = offsets.astype(np.int64)
    first, last, count = int(offsets[0]), int(offsets[-1]), layout.content.length
    if first < 0 or last > count:  # which Awkward doesn't check
        raise ShapeError(f"rows have offsets from {first} to {last}, but there are {count} elements")
    if first:
        offsets = offsets - offsets[0]
    return offsets, layout.content[first:last]
