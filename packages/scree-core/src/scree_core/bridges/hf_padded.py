"""The padded batch of Hugging Face models: hidden states, and an attention mask of ones and zeros."""

from __future__ import annotations

from typing import Any

from scree_core.array import Array
from scree_core.bridges.as_int64 import as_int64
from scree_core.construct import from_padded, to_padded
from scree_core.protocols import ArrayT


def to_hf_padded(
    arr: Array[ArrayT], side: str = "right", fill_value: Any = 0, max_length: int | None = None
) -> tuple[ArrayT, ArrayT]:
    """Spread rows into a dense array, padded to one length, with the mask that Hugging Face models take.

    Parameters
    ----------
    arr : Array
        Hidden states ``(total, features)``, token ids ``(total,)``, or anything else.
    side : {"right", "left"}
        Where the padding goes; decoders that generate want it on the left.
    fill_value : scalar, default 0
        What the padding holds: for token ids the tokenizer's ``pad_token_id``, for labels -100.
    max_length : int, optional
        Length to pad to; by default the longest row. Nothing is cut off.

    Returns
    -------
    hidden_states : array of shape (batch, length, *features)
    attention_mask : int64 array of shape (batch, length)
        1 where an element lies, 0 where padding does; int32 in JAX without x64.

    Raises
    ------
    ArgumentError, ShapeError
        As for ``scree.to_padded``.

    Notes
    -----
    ``scree.to_padded``, and 8 more bytes for each slot of the mask. Syncs only where that does.

    Examples
    --------
    >>> import numpy as np, scree
    >>> ids = scree.from_lengths(np.array([5, 6, 7]), [1, 2])
    >>> hidden_states, attention_mask = scree.bridges.to_hf_padded(ids, side="left")
    >>> hidden_states.tolist(), attention_mask.tolist()
    ([[0, 5], [6, 7]], [[0, 1], [1, 1]])
    """
    padded, mask = to_padded(arr, side, fill_value, max_length)
    return padded, as_int64(arr.backend, mask)


def from_hf_padded(hidden_states: ArrayT, attention_mask: ArrayT) -> Array[ArrayT]:
    """Collect the elements that an attention mask marks as real into an Array.

    Parameters
    ----------
    hidden_states : array of shape (batch, length, *features)
    attention_mask : array of shape (batch, length)
        Bool, or integers or floats that are all 0 or 1; padded on either side, or with holes.

    Returns
    -------
    Array
        A row for each row of the mask, of its ones alone.

    Raises
    ------
    ShapeError
        The mask has another shape, such as ``(batch, 1, length, length)``, or other numbers than 0 and 1.

    Notes
    -----
    One copy of the elements taken. Reads the mask on the host: one sync.

    Examples
    --------
    >>> import numpy as np, scree
    >>> ids, attention_mask = np.array([[0, 5], [6, 7]]), np.array([[0, 1], [1, 1]])
    >>> scree.bridges.from_hf_padded(ids, attention_mask).values
    array([5, 6, 7])
    """
    return from_padded(hidden_states, attention_mask)
