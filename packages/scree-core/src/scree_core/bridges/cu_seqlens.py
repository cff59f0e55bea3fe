"""What all that take ``cu_seqlens`` are told: int32 offsets, and the longest row."""

from __future__ import annotations

from typing import Any

from scree_core.array import Array
from scree_core.errors import ShapeError
from scree_core.layout import INT32_MAX


def int32_offsets(arr: Array[Any]) -> Any:
    """Return the offsets of an Array where they are int32, else narrowed ones, made once for a layout.

    Whoever calls knows that they fit.
    """
    offsets, backend = arr.layout.offsets, arr.backend
    if backend.dtype_name(offsets) == "int32":
        return offsets
    if not backend.may_cache(offsets):
        return backend.astype(offsets, "int32")
    return arr.layout.derived("int32 offsets", lambda: backend.astype(offsets, "int32"))


def narrow_offsets(arr: Array[Any], name: str) -> Any:
    """Return int32 offsets, where they can count the elements."""
    if arr.total_length > INT32_MAX and arr.backend.dtype_name(arr.layout.offsets) != "int32":
        raise ShapeError(
            f"{name} has {arr.total_length} elements, and these functions count in 32 bits: split the batch into "
            f"several of at most {INT32_MAX}"
        )
    return int32_offsets(arr)


def longest_row(arr: Array[Any]) -> int:
    """Return a bound of the row lengths, measured (one sync) where the host knows none."""
    if arr.layout.longest is not None:
        return int(arr.layout.longest)
    host = arr.backend.host_offsets(arr.layout)
    return int((host[1:] - host[:-1]).max(initial=0))
