"""Arrays of the same layout, filled anew."""

from __future__ import annotations

from typing import Any

from scree_core.arguments import check_array, check_holds
from scree_core.array import Array
from scree_core.protocols import ArrayT


def full_like(arr: Array[ArrayT], fill_value: Any, *, dtype: Any = None) -> Array[ArrayT]:
    """Return an Array on the layout of another, every element one value.

    Parameters
    ----------
    arr : Array
    fill_value : scalar
        A number that the dtype can hold.
    dtype : dtype of the library or its name, optional
        By default that of ``arr``.

    Returns
    -------
    Array
        On the device of ``arr``, sharing its layout.

    Raises
    ------
    ArgumentError
        The dtype of ``arr`` can't hold the value.

    Notes
    -----
    One allocation of the values; no sync.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.full_like(scree.from_lengths(np.arange(3), [1, 2]), 7).values
    array([7, 7, 7])
    """
    check_array(arr, "arr")
    if dtype is None:
        check_holds("fill_value", fill_value, arr.backend.dtype_name(arr.values))
    return arr.with_values(arr.backend.full_like(arr.values, fill_value, dtype))


def zeros_like(arr: Array[ArrayT], *, dtype: Any = None) -> Array[ArrayT]:
    """Return an Array of zeros on the layout of another.

    Parameters
    ----------
    arr : Array
    dtype : dtype of the library or its name, optional
        By default that of ``arr``.

    Returns
    -------
    Array
        On the device of ``arr``, sharing its layout.

    Notes
    -----
    One allocation of the values; no sync.
    """
    return full_like(arr, 0, dtype=dtype)


def empty_like(arr: Array[ArrayT], *, dtype: Any = None) -> Array[ArrayT]:
    """Return an Array on the layout of another whose values may be anything, to be filled by the caller.

    Parameters
    ----------
    arr : Array
    dtype : dtype of the library or its name, optional
        By default that of ``arr``.

    Returns
    -------
    Array
        On the device of ``arr``, sharing its layout.

    Notes
    -----
    One allocation, not written to; zeros in libraries without uninitialised memory (JAX, MLX). No sync.
    """
    check_array(arr, "arr")
    return arr.with_values(arr.backend.empty_like(arr.values, dtype))
