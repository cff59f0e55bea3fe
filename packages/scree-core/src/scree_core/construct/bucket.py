"""Sizes from a short list, so that compilers meet a handful of shapes instead of a new one for each batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.arguments import check_array
from scree_core.array import Array
from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.layout import Layout, check_bounds, checked_bound
from scree_core.protocols import ArrayT


def bucket(
    arr: Array[ArrayT], *, per_octave: int = 4, multiple: int = 128, max_length: int | None = None
) -> Array[ArrayT]:
    """Round the total length and the batch size of an Array up, so that few shapes occur.

    Parameters
    ----------
    arr : Array
    per_octave : int, default 4
        How many total lengths there are between a power of two and the next, evenly spaced.
    multiple : int, default 128
        Total lengths are multiples of this, which kernels' tiles like.
    max_length : int, optional
        Bound of the row lengths that the result carries, say the model's context. The exact one of ``arr``
        is dropped: compiled functions would be compiled anew for each.

    Returns
    -------
    Array
        Of the same rows, then empty rows up to a power of two, with a tail of zeros behind the last
        element: dead, no part of any result. ``unbucket`` is its inverse.

    Raises
    ------
    ShapeError
        ``per_octave`` or ``multiple`` isn't positive, or a row is longer than ``max_length``.

    Notes
    -----
    One copy of the values, none where no room is added; no sync. With 4 sizes per octave at most a fifth of a
    large batch is tail, a tenth on average. Reductions have a result for the added rows too, that of an empty
    row.

    For JAX bucket the batch while it is in NumPy, and hand it to the jitted function as it is: on JAX arrays
    even this would compile for each new length.

    Examples
    --------
    >>> import numpy as np, scree
    >>> arr = scree.from_lengths(np.ones(300), [100, 150, 50])
    >>> scree.bucket(arr)
    scree.Array(batch_size=4, total_length=384, tail=True, feature_shape=(), dtype=float64)
    """
    check_array(arr, "arr")
    for name, value in (("per_octave", per_octave), ("multiple", multiple)):
        if checked_bound(name, value) == 0:
            raise ShapeError(f"{name} must be positive, got 0")
    bound = checked_bound("max_length", max_length)
    backend, layout = arr.backend, arr.layout
    if layout.host is not None:
        check_bounds(layout.host, bound, None)
    total, batch = _size(arr.total_length, per_octave, multiple), _power_of_two(arr.batch_size)
    offsets, host = layout.offsets, layout.host
    if batch != arr.batch_size:
        offsets = _with_empty_rows(backend, offsets, batch)
        host = None if host is None else np.append(host, np.full(batch - arr.batch_size, host[-1], host.dtype))
        if isinstance(offsets, np.ndarray):
            offsets = host
    xp, axis = backend.xp, arr.ragged_dim
    moved = arr.values if axis == 0 else xp.moveaxis(arr.values, axis, 0)
    values = backend.lengthen(moved, total)
    values = values if axis == 0 else xp.moveaxis(values, 0, axis)
    return Array.trusted(values, Layout.trusted(offsets, total=total, max_length=bound, host=host, tail=True), axis)


def unbucket(arr: Array[ArrayT], like: Array[ArrayT] | None = None) -> Array[ArrayT]:
    """Cut the tail off an Array, and the empty rows that ``bucket`` added.

    Parameters
    ----------
    arr : Array
        With a tail, such as what was computed from ``scree.bucket(batch)``.
    like : Array, optional
        The ``batch`` before it was bucketed: the result lies on its layout. Without it the tail is cut off
        where the offsets end, and all rows stay.

    Returns
    -------
    Array
        A view of the values, as far as the library has views. ``arr`` itself if it has no tail.

    Raises
    ------
    ShapeError
        ``like`` has more rows or elements than ``arr``.

    Notes
    -----
    No sync with ``like``; without it the offsets are read on the host, once for each layout.

    Examples
    --------
    >>> import numpy as np, scree
    >>> batch = scree.from_lengths(np.ones(300), [100, 150, 50])
    >>> scree.unbucket(scree.bucket(batch) * 2, like=batch)
    scree.Array(batch_size=3, total_length=300, feature_shape=(), dtype=float64)
    """
    check_array(arr, "arr")
    if like is not None and not isinstance(like, Array):
        raise ArgumentTypeError(f"like must be a scree.Array, got {type(like).__name__}")
    if like is None:
        if not arr.layout.tail:
            return arr
        layout = arr.layout.without_tail(arr.backend.host_offsets(arr.layout))
    else:
        layout = like.layout
        if like.batch_size > arr.batch_size or like.total_length > arr.total_length:
            raise ShapeError(
                f"like has {like.batch_size} rows of {like.total_length} elements, more than the {arr.batch_size} "
                f"rows of {arr.total_length} elements that arr has; pass the batch that was bucketed"
            )
    total = arr.total_length if layout.total is None else layout.total
    cut = (slice(None),) * arr.ragged_dim
    return Array.trusted(arr.values[(*cut, slice(0, total), ...)], layout, arr.ragged_dim)


def _size(total: int, per_octave: int, multiple: int) -> int:
    """Return the smallest size of the list that holds ``total``: ``2**n * (1 + i / per_octave)``, rounded up."""
    octave = 1 << max(0, total.bit_length() - 1)
    sizes = (octave + -(-octave * i // per_octave) for i in range(per_octave + 1))
    return max(1, -(-next(size for size in sizes if size >= total) // multiple)) * multiple


def _power_of_two(batch: int) -> int:
    return 1 << max(0, batch - 1).bit_length()


def _with_empty_rows(backend: Any, offsets: Any, batch: int) -> Any:
    xp = backend.xp
    return xp.concat([offsets, xp.broadcast_to(offsets[-1:], (batch + 1 - offsets.shape[0],))], axis=0)
