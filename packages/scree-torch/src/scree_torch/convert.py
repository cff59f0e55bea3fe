"""Tensors from NumPy arrays and back: shared memory where that is safe, and bfloat16, which NumPy lacks."""

from __future__ import annotations

import numpy as np
import torch

from scree_core.errors import UnsupportedError
from scree_torch.tracing import in_transform


def from_numpy(a: np.ndarray, device: torch.device | None = None) -> torch.Tensor:
    """Return a tensor of the same values and dtype, on the CPU or on ``device``.

    Parameters
    ----------
    a : numpy.ndarray
        Of any strides and byte order; ``ml_dtypes.bfloat16`` gives ``torch.bfloat16``.
    device : torch.device, optional
        Where to put it; by default the CPU.

    Returns
    -------
    torch.Tensor
        On the CPU it shares the memory of ``a``, unless that is read-only, has negative strides or a
        foreign byte order: those are copied, since a tensor can be none of it.

    Notes
    -----
    The transfer to a CUDA device is queued and not waited for: no sync.
    """
    if not _can_share(a):
        a = a.astype(a.dtype.newbyteorder("="), order="C")
    tensor = (
        torch.from_numpy(a.view(np.uint16)).view(torch.bfloat16) if a.dtype.name == "bfloat16" else torch.from_numpy(a)
    )
    if device is None or device.type == "cpu":
        return tensor
    # CUDA has read the pageable host memory when the call returns, so nothing need be waited for.
    return tensor.to(device, non_blocking=device.type == "cuda")


def _can_share(a: np.ndarray) -> bool:
    return (
        a.flags.writeable  # PyTorch has no read-only tensors: writing through one would change `a`
        and a.dtype.isnative
        and all(stride >= 0 and stride % a.itemsize == 0 for stride in a.strides)
    )


def to_numpy(x: torch.Tensor) -> np.ndarray:
    """Return a NumPy array of the same values and dtype (``ml_dtypes.bfloat16`` for bfloat16).

    Parameters
    ----------
    x : torch.Tensor
        On any device; it is detached.

    Returns
    -------
    numpy.ndarray
        It shares the memory of a tensor on the CPU.

    Raises
    ------
    UnsupportedError
        The tensor is of bfloat16, and ml_dtypes isn't installed.

    Notes
    -----
    Syncs the device, if there is one.
    """
    if in_transform():  # inside torch.func.grad no tensor gives its memory away, but all give their values
        return np.array(x.tolist(), dtype=_numpy_dtype(x.dtype)).reshape(tuple(x.shape))
    if x.dtype == torch.bfloat16:
        return x.view(torch.uint16).numpy(force=True).view(_numpy_dtype(x.dtype))
    return x.numpy(force=True)


def _numpy_dtype(dtype: torch.dtype) -> np.dtype:
    name = str(dtype).rsplit(".", 1)[-1]
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise UnsupportedError(
            "NumPy has no bfloat16 of its own: pip install ml-dtypes, or cast first, x.to(torch.float32)"
        ) from error
    return np.dtype(ml_dtypes.bfloat16)
