"""The rows of an Array as libraries of nested lists take them: in host memory, the ragged axis first, no tail."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.array import Array
from scree_core.bridges.numpy import to_numpy
from scree_core.errors import ShapeError


def host_rows(arr: Array[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return values ``(total, *features)`` and offsets ``(batch + 1,)``, contiguous and in native byte order.

    Parameters
    ----------
    arr : Array
        Of any library.

    Returns
    -------
    values, offsets : numpy.ndarray
        The Array's own memory where it is NumPy's and lies so already. Elements of a tail are left out.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.
    ShapeError
        ``ragged_dim`` isn't 0: a list holds whole elements, so the ragged axis has to come first.
    """
    host = to_numpy(arr)
    if host.ragged_dim != 0:
        raise ShapeError(
            f"arr.ragged_dim is {host.ragged_dim}, but rows that are lists need the ragged axis first: "
            f"scree.Array(numpy.moveaxis(arr.values, {host.ragged_dim}, 0), arr.offsets)"
        )
    values = host.values[: int(host.offsets[-1])]
    return _plain(values), _plain(host.offsets)


def _plain(a: np.ndarray) -> np.ndarray:
    return np.require(a, a.dtype.newbyteorder("="), ("C_CONTIGUOUS", "ALIGNED"))
