"""Arrays from values that are packed already, and some form of row boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scree_core.array import Array, checked_axis
from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.layout import offsets_from_lengths
from scree_core.protocols import ArrayT
from scree_core.registry import backend_of


def from_cu_seqlens(
    values: ArrayT,
    cu_seqlens: ArrayT,
    *,
    max_length: int | None = None,
    min_length: int | None = None,
    tail: bool = False,
) -> Array[ArrayT]:
    """Wrap packed values and FlashAttention's cumulative sequence lengths, as they are.

    Parameters
    ----------
    values : array of shape (total, *features)
    cu_seqlens : array of shape (batch + 1,), int32 or int64
        Cumulative lengths from 0 to ``total``, on the values' device.
    max_length, min_length : int, optional
        Bounds of the row lengths, as for ``scree.Array``; FlashAttention calls the first
        ``max_seqlen``.
    tail : bool, default False
        Whether values may go on behind the last offset, as for ``scree.Array``.

    Returns
    -------
    Array
        With ``out.values is values`` and ``out.offsets is cu_seqlens``.

    Raises
    ------
    ShapeError
        The offsets break an invariant of ``scree.Array``.

    Notes
    -----
    No copy, no sync.

    Examples
    --------
    >>> import numpy as np, scree
    >>> cu_seqlens = np.array([0, 2, 5], np.int32)
    >>> scree.from_cu_seqlens(np.zeros((5, 8)), cu_seqlens).offsets is cu_seqlens
    True
    """
    return Array(values, cu_seqlens, max_length=max_length, min_length=min_length, tail=tail)


def from_lengths(values: ArrayT, lengths: Sequence[int] | Any, ragged_dim: int = 0) -> Array[ArrayT]:
    """Wrap packed values, cut into rows of the given lengths.

    Parameters
    ----------
    values : array
        With ``sum(lengths)`` elements along ``ragged_dim``.
    lengths : sequence of int, or integer array of shape (batch,)
        Row lengths, 0 allowed.
    ragged_dim : int, default 0

    Returns
    -------
    Array
        Values are kept as they are; offsets are int32, or int64 past 2**31 - 1 elements, on the
        values' device, with exact length hints.

    Raises
    ------
    ShapeError
        Lengths aren't 1-D integers, one is negative, or they don't add up to the values' length.

    Notes
    -----
    No copy of the values; one transfer of the offsets. Lengths on a device are read, which syncs it.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.from_lengths(np.arange(5), [2, 0, 3]).offsets
    array([0, 2, 2, 5], dtype=int32)
    """
    host = _host_integers(lengths, "lengths")
    negative = host < 0
    if negative.any():
        i = int(negative.argmax())
        raise ShapeError(f"lengths must not be negative, but lengths[{i}] is {host[i]}")
    return _from_host_offsets(values, offsets_from_lengths(host), ragged_dim, "lengths add up to")


def from_segment_ids(
    values: ArrayT, segment_ids: Any, batch_size: int | None = None, ragged_dim: int = 0
) -> Array[ArrayT]:
    """Wrap packed values, cut into rows by the row number of each element.

    Parameters
    ----------
    values : array
        With ``total`` elements along ``ragged_dim``.
    segment_ids : sequence of int, or integer array of shape (total,)
        Row number of each element, never decreasing; numbers left out are empty rows.
    batch_size : int, optional
        Number of rows; by default one more than the last row number.
    ragged_dim : int, default 0

    Returns
    -------
    Array
        Values are kept as they are; offsets as for ``from_lengths``.

    Raises
    ------
    ShapeError
        Row numbers decrease (the message says how to sort), are negative, or reach ``batch_size``, or
        there is another number of them than elements.

    Notes
    -----
    No copy of the values; one transfer of the offsets. Row numbers on a device are read, which syncs it.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.from_segment_ids(np.arange(4), [0, 0, 2, 2]).offsets
    array([0, 2, 2, 4], dtype=int32)
    """
    offsets = offsets_from_segment_ids(segment_ids, batch_size)
    return _from_host_offsets(values, offsets, ragged_dim, "segment_ids has the length")


def offsets_from_segment_ids(segment_ids: Any, batch_size: int | None = None, name: str = "segment_ids") -> np.ndarray:
    """Return the offsets in host memory that row numbers stand for; errors call these ``name``."""
    ids = _host_integers(segment_ids, name)
    decreasing = ids[1:] < ids[:-1]
    if decreasing.any():
        i = int(decreasing.argmax())
        raise ShapeError(
            f"{name} must be non-decreasing, but {name}[{i + 1}] < {name}[{i}] "
            f"({ids[i + 1]} < {ids[i]}); sort both first: order = np.argsort({name}, kind='stable')"
        )
    if ids.size and ids[0] < 0:
        raise ShapeError(f"{name} must not be negative, got {ids[0]}")
    last = int(ids[-1]) if ids.size else -1
    batch_size = last + 1 if batch_size is None else batch_size
    if last >= batch_size:
        raise ShapeError(f"{name}[-1] is {last}, out of range for batch_size={batch_size}")
    return offsets_from_lengths(np.bincount(ids, minlength=batch_size))


def _host_integers(numbers: Any, name: str) -> np.ndarray:
    if isinstance(numbers, (list, tuple, range)):
        host = _as_host(numbers, name)
    elif hasattr(numbers, "dtype"):
        host = backend_of(numbers).to_numpy(numbers)
    else:
        raise ArgumentTypeError(f"{name} must be a list or array of integers, got {type(numbers).__name__}")
    if host.ndim != 1:
        raise ShapeError(f"{name} must be 1-D, got shape {host.shape}")
    if host.size == 0:
        return np.zeros(0, np.int64)
    if host.dtype.kind not in "iu":
        raise ShapeError(f"{name} must be integers, got {host.dtype}")
    return host.astype(np.int64)


def _as_host(numbers: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(numbers)
    except ValueError:
        raise ShapeError(f"{name} must be 1-D, got lists of unequal lengths") from None


def _from_host_offsets(values: Any, offsets: np.ndarray, ragged_dim: int, what: str) -> Any:
    if not hasattr(values, "shape") or not hasattr(values, "dtype"):
        raise ArgumentTypeError(f"values must be an array, got {type(values).__name__}")
    if len(values.shape) < 1:
        raise ShapeError("values must be at least 1-D")
    ragged_dim = checked_axis(ragged_dim, len(values.shape))
    if offsets[-1] != values.shape[ragged_dim]:
        raise ShapeError(
            f"{what} {offsets[-1]}, but values.shape[ragged_dim={ragged_dim}] is {values.shape[ragged_dim]}"
        )
    return Array.trusted(values, backend_of(values).layout_from_host(offsets, like=values), ragged_dim)
