"""Batches end to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scree_core.arguments import check_array, front
from scree_core.array import Array
from scree_core.construct.pack import check_features
from scree_core.dispatch import Call, run
from scree_core.errors import ShapeError
from scree_core.layout import offsets_from_lengths
from scree_core.protocols import ArrayT


def concat(arrays: Sequence[Array[ArrayT]], *, backend: str | None = None) -> Array[ArrayT]:
    """Join Arrays along the batch: the rows of the first, then those of the second, and so on.

    Parameters
    ----------
    arrays : sequence of Array
        Of one library, dtype, ``ragged_dim`` and feature shape. Batches of no rows are fine.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array
        With the sum of their batch sizes.

    Raises
    ------
    ShapeError
        The list is empty, or an Array differs; the message names its index.

    Notes
    -----
    One copy of all values. Reads offsets on the host, which syncs a device once for each layout.

    Examples
    --------
    >>> import numpy as np, scree
    >>> a = scree.from_lengths(np.arange(3), [1, 2])
    >>> scree.concat([a, a]).offsets
    array([0, 1, 3, 4, 6], dtype=int32)
    """
    arrays = list(arrays)
    if not arrays:
        raise ShapeError("can't concat an empty list: dtype and features are unknown")
    for i, arr in enumerate(arrays):
        check_array(arr, f"arrays[{i}]")
    first = arrays[0]
    for i, arr in enumerate(arrays):
        if arr.ragged_dim != first.ragged_dim:
            raise ShapeError(f"arrays[{i}] has ragged_dim={arr.ragged_dim}, arrays[0] has {first.ragged_dim}")
    check_features([arr.values for arr in arrays], first.ragged_dim, "arrays")
    owner = first.backend
    named: dict[str, Any] = {f"arrays[{i}]": arr.values for i, arr in enumerate(arrays)}
    values = run(Call("pack", ([_live(arr) for arr in arrays],), {}, named), backend)
    if first.ragged_dim != 0:
        values = owner.xp.moveaxis(values, 0, first.ragged_dim)
    lengths = np.concatenate([np.diff(owner.host_offsets(arr.layout)) for arr in arrays])
    offsets = offsets_from_lengths(lengths)
    widest = np.result_type(offsets, *(owner.host_offsets(arr.layout).dtype for arr in arrays))
    layout = owner.layout_from_host(offsets.astype(widest, copy=False), like=first.values)
    return Array.trusted(values, layout, first.ragged_dim)


def _live(arr: Array[Any]) -> Any:
    """Return the elements of the rows, ragged axis first."""
    values = front(arr)
    return values[: int(arr.backend.host_offsets(arr.layout)[-1]), ...] if arr.layout.tail else values
