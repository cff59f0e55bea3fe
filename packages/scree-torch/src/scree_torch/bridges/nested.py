"""PyTorch's nested tensors of the jagged layout, which lie in memory as an Array does."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scree_core import Array, unbucket
from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.layout import INT32_MAX
from scree_torch.bridges.torch import to_torch


def to_torch_nested(arr: Array[Any]) -> torch.Tensor:
    """Return the Array as a nested tensor of the jagged layout.

    Parameters
    ----------
    arr : Array
        Of tensors; those of other libraries go through ``to_torch``.

    Returns
    -------
    torch.Tensor
        Of shape ``(batch, *features)`` with the ragged axis at ``1 + ragged_dim``, sharing the values.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.

    Notes
    -----
    The values aren't copied, and gradients flow back to them. Nested tensors want int64 offsets, so int32
    ones are copied, ``8 * (batch + 1)`` bytes. Cutting off a tail reads the offsets on the host; otherwise no sync.

    Examples
    --------
    >>> import torch, scree
    >>> from scree_torch.bridges import to_torch_nested
    >>> nested = to_torch_nested(scree.from_lengths(torch.arange(3.0), [1, 2]))
    >>> [row.tolist() for row in nested.unbind()]
    [[0.0], [1.0, 2.0]]
    """
    arr = unbucket(to_torch(arr))
    # A nested tensor pads to these, so bounds won't do: only lengths that the host has measured.
    lengths = None if arr.layout.host is None else np.diff(arr.layout.host)
    measured = lengths is not None and lengths.size > 0
    return torch.nested.nested_tensor_from_jagged(
        arr.values,
        arr.offsets.to(torch.int64),
        jagged_dim=1 + arr.ragged_dim,
        min_seqlen=int(lengths.min()) if measured else None,  # pyrefly: ignore[missing-attribute]
        max_seqlen=int(lengths.max()) if measured else None,  # pyrefly: ignore[missing-attribute]
    )


def from_torch_nested(nested: torch.Tensor) -> Array[torch.Tensor]:
    """Return a nested tensor of the jagged layout as an Array.

    Parameters
    ----------
    nested : torch.Tensor
        Nested, of layout ``torch.jagged``, without holes. Transposed ones are fine.

    Returns
    -------
    Array
        On the nested tensor's values, with ``ragged_dim`` one less than the nested tensor's ragged axis.
        Offsets are int32, or int64 past 2**31 - 1 elements.

    Raises
    ------
    ArgumentTypeError
        It is no nested tensor.
    ShapeError
        It is of the strided layout, or has holes between its rows; the message says how to pack it.

    Notes
    -----
    The values aren't copied, and gradients flow back to them; the offsets are, once, to int32. No sync.

    Examples
    --------
    >>> import torch, scree
    >>> from scree_torch.bridges import from_torch_nested
    >>> nested = torch.nested.nested_tensor([torch.zeros(1), torch.ones(2)], layout=torch.jagged)
    >>> from_torch_nested(nested).values
    tensor([0., 1., 1.])
    """
    if not isinstance(nested, torch.Tensor) or not nested.is_nested:
        raise ArgumentTypeError(
            f"nested must be a nested tensor, got {type(nested).__name__}; for a list of tensors use scree.pack"
        )
    if nested.layout != torch.jagged:
        raise ShapeError(
            "nested has the strided layout, an Array is jagged; pack its rows with scree.pack(list(nested.unbind())), "
            "or make it with layout=torch.jagged"
        )
    if nested.lengths() is not None:  # pyrefly: ignore[missing-attribute]
        raise ShapeError(
            "nested has holes between its rows (lengths beside offsets), an Array has none; "
            "close them with nested.contiguous()"
        )
    values, offsets = nested.values(), nested.offsets()  # pyrefly: ignore[missing-attribute]
    ragged_dim = nested._ragged_idx - 1  # pyrefly: ignore[missing-attribute]
    if values.shape[ragged_dim] <= INT32_MAX:
        offsets = offsets.to(torch.int32)
    return Array(
        values,
        offsets,
        ragged_dim,
        max_length=nested._maybe_max_seqlen,  # pyrefly: ignore[missing-attribute]
        min_length=nested._maybe_min_seqlen,  # pyrefly: ignore[missing-attribute]
    )
