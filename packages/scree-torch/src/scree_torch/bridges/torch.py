"""An Array of any library as an Array of tensors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from scree_core import Array, Backend
from scree_core.arguments import check_array
from scree_core.bridges.memory import check_copy, on_same_rows, refuse_to_share
from scree_core.dlpack import UNSHARED, on_device
from scree_torch.convert import from_numpy


def to_torch(
    arr: Array[Any], device: torch.device | str | None = None, *, copy: bool | None = None
) -> Array[torch.Tensor]:
    """Return the Array with tensors for values and offsets.

    Parameters
    ----------
    arr : Array
        Of any library.
    device : torch.device or str, optional
        Where the tensors shall be; by default where the arrays are, and the CPU for those on a device that PyTorch
        doesn't know.
    copy : bool, optional
        True copies the values. None, the default, shares memory on one device, and copies there what its library takes
        for immutable: arrays of JAX and MLX, and read-only ones of NumPy. False shares these too, or raises; then
        don't write to the tensor, which PyTorch can't prevent.

    Returns
    -------
    Array
        The same object where nothing is to be done. Dtypes, ``ragged_dim``, length hints and a tail stay.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``, or ``copy`` none of the three.
    UnsupportedError
        ``copy`` is False, and the values are to move to another device, or have negative strides or a foreign byte
        order, which no tensor has; or they are traced.

    Notes
    -----
    Where memory is shared, writing to one side shows on the other. Offsets are shared or copied as ``copy=None``
    would. Gradients flow between tensors, a copy's and another device's too, and stop at other libraries. Syncs the
    device of another library.

    Examples
    --------
    >>> import numpy as np, scree
    >>> from scree_torch.bridges import to_torch
    >>> arr = scree.from_lengths(np.arange(3.0), [1, 2])
    >>> to_torch(arr).values
    tensor([0., 1., 2.], dtype=torch.float64)
    """
    check_array(arr, "arr")
    check_copy(copy)
    target = None if device is None else torch.device(device)
    if isinstance(arr.values, torch.Tensor):
        values, offsets = (x if target is None else x.to(target) for x in (arr.values, arr.offsets))
        if copy is False and values is not arr.values:
            raise refuse_to_share("torch", "torch", f"they are on {arr.values.device}, not on {target}")
        if copy and values is arr.values:
            values = values.clone()
        if values is arr.values and offsets is arr.offsets:
            return arr
    else:
        values = _shared(arr, target) if copy is False else _taken(arr.values, arr.backend, target, copy)
        offsets = _taken(arr.offsets, arr.backend, values.device, None)
    return on_same_rows(arr, values, offsets, _host_offsets(arr, offsets))


def _taken(x: Any, backend: Backend[Any], device: torch.device | None, copy: bool | None) -> torch.Tensor:
    """Return an array of another library as a tensor, there where it is if no device is given."""
    if on_device(x):
        backend.synchronize(x)
        try:
            tensor = torch.from_dlpack(x)
        except UNSHARED:
            pass  # a kind of device that this build of PyTorch doesn't know: by way of the host
        else:
            moved = tensor if device is None else tensor.to(device)
            return moved.clone() if moved is tensor and (copy or backend.immutable) else moved
    host = backend.to_numpy(x)
    return from_numpy(np.array(host) if copy else host, device)


def _shared(arr: Array[Any], device: torch.device | None) -> torch.Tensor:
    """Return the values of another library as a tensor on their memory."""
    values, source = arr.values, arr.backend.name
    if not isinstance(values, np.ndarray):
        try:
            arr.backend.synchronize(values)
            tensor = torch.from_dlpack(values)
        except UNSHARED as error:
            arr.backend.to_numpy(values)  # which says it where they are traced
            raise refuse_to_share(source, "torch", str(error)) from error
        if device is not None and tensor.to(device) is not tensor:
            raise refuse_to_share(source, "torch", f"they are on {tensor.device}, not on {device}")
        return tensor
    if device is not None and device.type != "cpu":
        raise refuse_to_share(source, "torch", f"they are to be on {device}")
    # By way of DLPack negative strides would end the process.
    if not values.dtype.isnative:
        raise refuse_to_share(source, "torch", "they are of a foreign byte order")
    if any(stride < 0 or stride % values.itemsize for stride in values.strides):
        raise refuse_to_share(source, "torch", f"no tensor has their strides, {values.strides}")
    halves = values.dtype.name == "bfloat16"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        tensor = torch.from_numpy(values.view(np.uint16) if halves else values)
    return tensor.view(torch.bfloat16) if halves else tensor


def _host_offsets(arr: Array[Any], offsets: torch.Tensor) -> np.ndarray | None:
    """Return the offsets in host memory, where they were known already or are now."""
    return offsets.numpy() if offsets.device.type == "cpu" else arr.layout.host
