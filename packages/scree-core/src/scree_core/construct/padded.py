"""Padding an Array to a dense array and a mask, and dropping padding again."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.arguments import check_array, check_holds, front, layout_of
from scree_core.array import Array, checked_axis
from scree_core.dispatch import Call, run
from scree_core.errors import ArgumentError, ShapeError
from scree_core.layout import checked_bound
from scree_core.protocols import ArrayT
from scree_core.registry import backend_of


def to_padded(
    arr: Array[ArrayT],
    side: str = "right",
    fill_value: Any = 0,
    max_length: int | None = None,
    *,
    backend: str | None = None,
) -> tuple[ArrayT, ArrayT]:
    """Spread rows into a dense array, padded to one length, with the mask of real elements.

    Parameters
    ----------
    arr : Array
    side : {"right", "left"}
        Where the padding goes: behind the elements of a row, or before them.
    fill_value : scalar, default 0
        What the padding holds, cast to the dtype of the values.
    max_length : int, optional
        Length to pad to; by default ``arr.max_length``, the longest row.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    padded : array of shape (batch, *features) with the length inserted at axis 1 + ragged_dim
        ``(batch, max_length, *features)`` for the usual ``ragged_dim`` of 0.
    mask : bool array of shape (batch, max_length)
        True where an element of the row lies.

    Raises
    ------
    ArgumentError
        Another side, or a fill value that the dtype can't hold.
    ShapeError
        ``max_length`` is shorter than a row: nothing is cut off.

    Notes
    -----
    Writes ``batch * max_length`` slots once. Syncs only where neither ``max_length`` is given nor
    ``arr.max_length`` known: then it reads the offsets. A ``max_length`` given for offsets that only a
    device knows is trusted.

    Examples
    --------
    >>> import numpy as np, scree
    >>> padded, mask = scree.to_padded(scree.from_lengths(np.array([1, 2, 3]), [1, 2]), side="left")
    >>> padded.tolist(), mask.tolist()
    ([[0, 1], [2, 3]], [[False, True], [True, True]])
    """
    check_array(arr, "arr")
    if side not in ("right", "left"):
        raise ArgumentError(f'side must be "right" or "left", got {side!r}')
    check_holds("fill_value", fill_value, arr.backend.dtype_name(arr.values))
    width = _width(arr, max_length)
    call = Call(
        "to_padded",
        (front(arr), layout_of(arr)),
        {"width": width, "side": side, "fill_value": fill_value},
        {"arr": arr.values},
    )
    padded, mask = run(call, backend)
    if arr.ragged_dim != 0:
        padded = arr.backend.xp.moveaxis(padded, 1, 1 + arr.ragged_dim)
    return padded, mask


def _width(arr: Array[Any], max_length: int | None) -> int:
    if max_length is None:
        bound = arr.max_length
        return int(np.diff(arr.backend.host_offsets(arr.layout)).max(initial=0)) if bound is None else bound
    longest = arr.layout.longest
    if longest is not None and max_length < longest:
        raise ShapeError(f"max_length={max_length} is shorter than the longest row ({longest} elements)")
    return checked_bound("max_length", max_length)


def from_padded(
    padded: ArrayT, mask: ArrayT, ragged_dim: int = 0, *, capacity: int | None = None, backend: str | None = None
) -> Array[ArrayT]:
    """Collect the elements of a dense array that a mask marks as real into an Array.

    Parameters
    ----------
    padded : array of shape (batch, length, *features)
        With the length at axis ``1 + ragged_dim``.
    mask : array of shape (batch, length), bool, or numbers that are all 0 or 1
        Any mask: padding on the right, on the left, or anywhere. Exactly the True positions are taken,
        in order. Of the library of ``padded``.
    ragged_dim : int, default 0
        Axis of the result's values along which rows lie.
    capacity : int, optional
        Number of elements to make room for: the result has a tail of zeros, and a shape that doesn't depend on
        the mask, as compiled functions need it. ``batch * length`` always suffices.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array
        A row for each row of the mask, empty where nothing is True; offsets int32, or int64 past
        2**31 - 1 elements.

    Raises
    ------
    ShapeError
        The mask's shape isn't ``(batch, length)``, or it holds other numbers than 0 and 1, or ``capacity`` is
        seen to be too small.

    Notes
    -----
    One copy of the elements taken. How many they are is known to the mask alone, so this reads it on
    the host: one sync, unless there is a ``capacity`` and the backend takes tails.

    Examples
    --------
    >>> import numpy as np, scree
    >>> arr = scree.from_padded(np.array([[7, 0], [8, 9]]), np.array([[True, False], [True, True]]))
    >>> arr.values.tolist(), arr.offsets.tolist()
    ([7, 8, 9], [0, 1, 3])
    """
    shape = tuple(getattr(padded, "shape", ()))
    if len(shape) < 2:
        raise ShapeError(f"padded must be at least 2-D, (batch, length, ...), got shape {shape}")
    ndim = len(shape) - 1
    ragged_dim = checked_axis(ragged_dim, ndim)
    expected = (shape[0], shape[1 + ragged_dim])
    if tuple(getattr(mask, "shape", ())) != expected:
        raise ShapeError(f"mask must have shape (batch, length) = {expected}, got {getattr(mask, 'shape', None)}")
    owner = backend_of(padded)
    mask = _as_bool(owner, mask)
    moved = padded if ragged_dim == 0 else owner.xp.moveaxis(padded, 1 + ragged_dim, 1)
    options = {"capacity": checked_bound("capacity", capacity)}
    values, layout = run(Call("from_padded", (moved, mask), options, {"padded": padded, "mask": mask}), backend)
    if ragged_dim != 0:
        values = owner.xp.moveaxis(values, 0, ragged_dim)
    return Array.trusted(values, layout, ragged_dim)


def _as_bool(owner: Any, mask: Any) -> Any:
    if not owner.owns(mask):
        owner = backend_of(mask)  # dispatch will name the two libraries
    if owner.dtype_name(mask) in ("bool", "bool_"):
        return mask
    host = owner.to_numpy(mask)
    wrong = (host != 0) & (host != 1)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ShapeError(
            f"mask must be bool, or hold 0 and 1 alone, but mask[{at[0]}, {at[1]}] is {host[at]}; "
            "for an additive mask pass mask == 0"
        )
    return owner.from_numpy(host != 0, like=mask)
