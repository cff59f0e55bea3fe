"""An Array of any library as an Array of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scree_core import Array, Layout
from scree_core.errors import ArgumentTypeError
from scree_torch.convert import from_numpy


def to_torch(arr: Array[Any], device: torch.device | str | None = None) -> Array[torch.Tensor]:
    """Return the Array with tensors for values and offsets.

    Parameters
    ----------
    arr : Array
        Of any library.
    device : torch.device or str, optional
        Where the tensors shall be; by default where they are, and the CPU for other libraries.

    Returns
    -------
    Array
        The same object where nothing is to be done. Dtypes, ``ragged_dim``, length hints and a tail stay.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.

    Notes
    -----
    On the CPU, values and offsets of a NumPy Array are shared, not copied: writing to one side shows on
    the other. Read-only arrays, negative strides and foreign byte orders are copied, since a tensor can be
    none of it; so are the arrays of JAX and MLX, which are read-only in NumPy's eyes. Gradients flow
    between tensors of two devices, and stop at other libraries. Syncs the device of another library.

    Examples
    --------
    >>> import numpy as np, scree
    >>> from scree_torch.bridges import to_torch
    >>> arr = scree.from_lengths(np.arange(3.0), [1, 2])
    >>> to_torch(arr).values
    tensor([0., 1., 2.], dtype=torch.float64)
    """
    if not isinstance(arr, Array):
        raise ArgumentTypeError(f"arr must be a scree.Array, got {type(arr).__name__}; make one with scree.pack")
    target = None if device is None else torch.device(device)
    if isinstance(arr.values, torch.Tensor):
        values, offsets = (x if target is None else x.to(target) for x in (arr.values, arr.offsets))
        if values is arr.values and offsets is arr.offsets:
            return arr
    else:
        backend = arr.backend
        values, offsets = (from_numpy(backend.to_numpy(x), target) for x in (arr.values, arr.offsets))
    layout = Layout.trusted(
        offsets,
        total=arr.total_length,
        max_length=arr.max_length,
        min_length=arr.min_length,
        host=_host_offsets(arr, offsets),
        tail=arr.layout.tail,
    )
    return Array.trusted(values, layout, arr.ragged_dim)


def _host_offsets(arr: Array[Any], offsets: torch.Tensor) -> np.ndarray | None:
    """Return the offsets in host memory, where they were known already or are now."""
    return offsets.numpy() if offsets.device.type == "cpu" else arr.layout.host
