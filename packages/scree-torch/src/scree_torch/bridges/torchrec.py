"""The ``JaggedTensor`` of TorchRec, which lies in memory as an Array does."""

from __future__ import annotations

from typing import Any

import torch

from scree_core import Array, unbucket
from scree_core.arguments import front
from scree_core.bridges.library import library
from scree_core.errors import ArgumentTypeError, ShapeError
from scree_torch.bridges.torch import to_torch


def to_torchrec(arr: Array[Any]) -> Any:
    """Return the Array as a JaggedTensor.

    Parameters
    ----------
    arr : Array
        Of tensors; those of other libraries go through ``to_torch``.

    Returns
    -------
    torchrec.sparse.jagged_tensor.JaggedTensor
        On the same values and offsets, without weights.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.
    BackendNotInstalledError
        TorchRec isn't installed.

    Notes
    -----
    Nothing is copied, and gradients flow back to the values. The ragged axis comes first, as a view; cutting
    off a tail reads the offsets on the host. Otherwise no sync.
    """
    arr = to_torch(arr)
    jagged_tensor = library("torchrec.sparse.jagged_tensor", "to_torchrec", "torchrec")
    arr = unbucket(arr)
    return jagged_tensor.JaggedTensor(values=front(arr), offsets=arr.offsets)


def from_torchrec(jagged: Any) -> Array[torch.Tensor]:
    """Return a JaggedTensor as an Array.

    Parameters
    ----------
    jagged : torchrec.sparse.jagged_tensor.JaggedTensor
        Or anything with its methods ``values()`` and ``offsets()``. Without weights.

    Returns
    -------
    Array
        On the values and offsets of ``jagged``.

    Raises
    ------
    ArgumentTypeError
        ``jagged`` hasn't these methods, is a nested tensor, or a KeyedJaggedTensor, which holds several batches.
    ShapeError
        It has weights, which an Array hasn't, or the offsets break an invariant of ``scree.Array``.

    Notes
    -----
    Nothing is copied, and gradients flow back to the values. TorchRec adds up the offsets where it has but
    lengths. No sync.

    Examples
    --------
    >>> import torch, scree
    >>> from types import SimpleNamespace
    >>> from scree_torch.bridges import from_torchrec
    >>> values, offsets = torch.ones(3), torch.tensor([0, 1, 3])
    >>> jagged = SimpleNamespace(values=lambda: values, offsets=lambda: offsets)  # as TorchRec's would
    >>> from_torchrec(jagged).values is values
    True
    """
    if isinstance(jagged, torch.Tensor):
        mend = "; use scree.bridges.from_torch_nested" if jagged.is_nested else ""
        raise ArgumentTypeError(f"jagged must be a JaggedTensor, got a {type(jagged).__name__}{mend}")
    if hasattr(jagged, "keys"):
        raise ArgumentTypeError(
            f"jagged is a {type(jagged).__name__}, which holds a batch for each key; take one, jagged[key]"
        )
    values, offsets = getattr(jagged, "values", None), getattr(jagged, "offsets", None)
    if not callable(values) or not callable(offsets):
        raise ArgumentTypeError(
            f"jagged must have the methods values() and offsets(), as JaggedTensor has, got {type(jagged).__name__}"
        )
    weights = getattr(jagged, "weights_or_none", None)
    if callable(weights) and weights() is not None:
        raise ShapeError(
            "jagged has weights, an Array has none; make two Arrays, scree.from_cu_seqlens(x, jagged.offsets()) "
            "of jagged.values() and of jagged.weights()"
        )
    return Array(values(), offsets())
