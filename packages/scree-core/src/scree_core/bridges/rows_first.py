"""What other systems take of an Array: its rows alone, along the first axis."""

from __future__ import annotations

from typing import Any

from scree_core.array import Array
from scree_core.construct import unbucket


def rows_first(arr: Array[Any]) -> Array[Any]:
    """Return the rows of an Array with the ragged axis first and no tail: views, as far as the library has views.

    Cutting a tail off reads the offsets on the host, once for each layout; without one there is no sync.
    """
    if arr.layout.tail:
        arr = unbucket(arr)
    if arr.ragged_dim == 0:
        return arr
    return Array.trusted(arr.backend.xp.moveaxis(arr.values, arr.ragged_dim, 0), arr.layout)
