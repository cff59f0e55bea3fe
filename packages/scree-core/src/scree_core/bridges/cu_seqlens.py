"""What all that take ``cu_seqlens`` are told: int32 offsets, and the longest row."""

from __future__ import annotations

from typing import Any

from scree_core.array import Array


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


def longest_row(arr: Array[Any]) -> int:
    """Return a bound of the row lengths, measured (one sync) where the host knows none."""
    if arr.layout.longest is not None:
        return int(arr.layout.longest)
    host = arr.backend.host_offsets(arr.layout)
    return int((host[1:] - host[:-1]).max(initial=0))
