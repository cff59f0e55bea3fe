"""The ``PackedSequence`` of PyTorch's recurrent layers: elements step by step, of the longest row first."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

from scree_core import Array, unbucket
from scree_core.arguments import front
from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.layout import INT32_MAX
from scree_torch.bridges.torch import to_torch
from scree_torch.convert import from_numpy
from scree_torch.segments import positions, segment_ids


def to_packed_sequence(arr: Array[Any]) -> PackedSequence:
    """Return the rows as ``pack_sequence(rows, enforce_sorted=False)`` would.

    Parameters
    ----------
    arr : Array
        Of tensors; those of other libraries go through ``to_torch``. No row may be empty.

    Returns
    -------
    torch.nn.utils.rnn.PackedSequence
        The rows go in the order of their lengths, and recurrent layers give results in the order that
        they have here. ``batch_sizes`` is on the CPU, as it must be, and all else where the values are.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.
    ShapeError
        There is no row, or an empty one, which a PackedSequence can't hold; the message gives its number.

    Notes
    -----
    One copy of the values, and gradients flow back to them. The ragged axis comes first; a tail is cut off.

    Syncs a device where its offsets haven't been read, once for each layout: ``batch_sizes`` is made of their values.

    Examples
    --------
    >>> import torch, scree
    >>> from scree_torch.bridges import to_packed_sequence
    >>> to_packed_sequence(scree.from_lengths(torch.tensor([1, 2, 3]), [1, 2])).data
    tensor([2, 1, 3])
    """
    arr = unbucket(to_torch(arr))
    lengths = np.diff(arr.backend.host_offsets(arr.layout)).astype(np.int64)
    if not lengths.size:
        raise ShapeError("arr has no row, a PackedSequence needs one at least")
    if not lengths.all():
        raise ShapeError(
            f"row {int(lengths.argmin())} is empty, which a PackedSequence can't hold; keep the others, "
            "arr[arr.lengths > 0]"
        )
    # The sort that PyTorch uses: it isn't stable, and rows of one length shall lie as PyTorch lays them.
    order = from_numpy(torch.sort(torch.from_numpy(lengths), descending=True).indices.numpy(), arr.values.device)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(order.shape[0], device=order.device))
    batch_sizes = _longer(lengths)
    values = front(arr)
    places = _places(arr.offsets, values.shape[0], rank, batch_sizes)
    data = torch.empty(values.shape, dtype=values.dtype, device=values.device).index_copy_(0, places, values)
    return PackedSequence(data, torch.from_numpy(batch_sizes), order, rank)


def from_packed_sequence(packed: PackedSequence) -> Array[torch.Tensor]:
    """Return the sequences of a PackedSequence as rows, in the order that they had before it sorted them.

    Parameters
    ----------
    packed : torch.nn.utils.rnn.PackedSequence
        Made by PyTorch or ``to_packed_sequence``, or what a recurrent layer returned for it.

    Returns
    -------
    Array
        On the device of ``packed.data``, with offsets int32, or int64 past 2**31 - 1 elements, and exact
        ``max_length`` and ``min_length``.

    Raises
    ------
    ArgumentTypeError
        ``packed`` isn't a PackedSequence.
    ShapeError
        ``batch_sizes`` increase, or don't add up to the elements of ``data``.

    Notes
    -----
    One copy of the values, and gradients flow back to them. No sync: ``batch_sizes`` is on the host, and the
    order of the rows stays on the device.

    Examples
    --------
    >>> import torch, scree
    >>> from scree_torch.bridges import from_packed_sequence
    >>> packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(1), torch.ones(2)], enforce_sorted=False)
    >>> from_packed_sequence(packed).values
    tensor([0., 1., 1.])
    """
    if not isinstance(packed, PackedSequence):
        raise ArgumentTypeError(
            f"packed must be a torch.nn.utils.rnn.PackedSequence, got {type(packed).__name__}; "
            "for a list of tensors use scree.pack"
        )
    data, batch_sizes = packed.data, packed.batch_sizes.numpy()
    _check(data, batch_sizes)
    lengths = _longer(batch_sizes)
    bounds = {"max_length": int(lengths.max(initial=0)), "min_length": int(lengths[-1]) if lengths.size else 0}
    rank, dtype = packed.unsorted_indices, torch.int32 if data.shape[0] <= INT32_MAX else torch.int64
    sizes = from_numpy(lengths, data.device)
    if rank is None:
        rank = torch.arange(lengths.shape[0], device=data.device)
    else:
        sizes = sizes.index_select(0, rank)
    offsets = torch.nn.functional.pad(sizes.cumsum(0), (1, 0)).to(dtype)
    values = data.index_select(0, _places(offsets, data.shape[0], rank, batch_sizes))
    return Array(values, offsets, **bounds)


def _longer(counts: np.ndarray) -> np.ndarray:
    """Return how many of the counts are more than 0, than 1 and so on, as many as the largest says.

    Turns lengths into batch sizes, and batch sizes into lengths, the largest first.
    """
    at_most = np.cumsum(np.bincount(counts))[:-1]
    return counts.shape[0] - at_most


def _places(offsets: torch.Tensor, total: int, rank: torch.Tensor, batch_sizes: np.ndarray) -> torch.Tensor:
    """Return where each element of the rows lies among the steps, ``(total,)`` int64."""
    ids = segment_ids(offsets, total)
    at = positions(offsets, ids, tail=False)
    steps = from_numpy(np.cumsum(batch_sizes) - batch_sizes, offsets.device)
    return steps.index_select(0, at) + rank.index_select(0, ids)


def _check(data: torch.Tensor, batch_sizes: np.ndarray) -> None:
    """Check what the host knows of a PackedSequence, which anybody can put together."""
    increasing = batch_sizes[1:] > batch_sizes[:-1]
    if increasing.any():
        i = int(increasing.argmax())
        raise ShapeError(
            f"batch_sizes must not increase, but batch_sizes[{i + 1}] > batch_sizes[{i}] "
            f"({batch_sizes[i + 1]} > {batch_sizes[i]})"
        )
    if batch_sizes.sum() != data.shape[0]:
        raise ShapeError(f"batch_sizes add up to {batch_sizes.sum()}, but data has {data.shape[0]} elements")
