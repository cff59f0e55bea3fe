"""An Array of any library as an Array of MLX arrays."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from scree_core import Array
from scree_core.arguments import check_array
from scree_core.bridges.memory import check_copy, on_same_rows, refuse_to_share
from scree_mlx.convert import from_numpy


def to_mlx(arr: Array[Any], *, copy: bool | None = None) -> Array[mx.array]:
    """Return the Array with MLX arrays for values and offsets.

    Parameters
    ----------
    arr : Array
        Of any library.
    copy : bool, optional
        True and None, the default, copy: MLX takes no other library's memory. None returns MLX's own as they are.
        False raises for others.

    Returns
    -------
    Array
        Dtypes, ``ragged_dim``, length hints and a tail stay; float64 too, with which MLX computes on the CPU alone.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``, or ``copy`` none of the three.
    ShapeError
        MLX has no such dtype.
    UnsupportedError
        ``copy`` is False; or the values are traced.

    Notes
    -----
    Gradients stop here. Syncs a device.

    Examples
    --------
    >>> import numpy as np, scree
    >>> from scree_mlx.bridges import to_mlx
    >>> to_mlx(scree.from_lengths(np.zeros((3, 2)), [1, 2])).dtype
    mlx.core.float64
    """
    check_array(arr, "arr")
    check_copy(copy)
    if isinstance(arr.values, mx.array):
        return arr if not copy else Array.trusted(mx.array(arr.values), arr.layout, arr.ragged_dim)
    backend = arr.backend
    if copy is False:
        raise refuse_to_share(backend.name, "mlx", "MLX takes no other library's memory")
    host = backend.host_offsets(arr.layout)
    return on_same_rows(arr, from_numpy(backend.to_numpy(arr.values)), from_numpy(host), host)
