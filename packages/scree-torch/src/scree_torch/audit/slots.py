"""Which row each element of a batch belongs to, and so each element of whatever a model makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from scree_core import Array
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError, UnsupportedError
from scree_torch.convert import to_numpy

NOBODY = -1
"""The row of padding."""
CUMULATIVE = ("cu_seq_lens_q", "cu_seq_lens", "cu_seqlens")


class Elements(NamedTuple):
    """A tensor as elements, and the row of each."""

    values: torch.Tensor
    """Of shape ``(elements, ...)``."""
    rows: np.ndarray
    """Int64 ``(elements,)``, ``NOBODY`` for padding."""


class Slots:
    """The rows of a batch, by the shapes ``(batch, length)`` that its tensors begin with.

    Parameters
    ----------
    *grids : np.ndarray of shape (batch, length), int64
        The row of each slot, ``NOBODY`` for padding. Of two with one shape a slot is padding where both say so.
    """

    def __init__(self, *grids: np.ndarray) -> None:
        self.grids: dict[tuple[int, ...], np.ndarray] = {}
        for grid in grids:
            self.grids[grid.shape] = np.maximum(grid, self.grids.get(grid.shape, grid))
        self.count = max(int(grid.max(initial=NOBODY)) for grid in grids) + 1

    def elements(self, x: Any) -> Elements | None:
        """Return a tensor or an Array by its elements, views where strides allow; None where rows aren't seen in it.

        Seen are ``(batch, length, ...)``, ``(batch * length, ...)``, ``(batch, heads, length, head_dim)``, and one
        element for each row.
        """
        if isinstance(x, Array):
            return Elements(x.values, rows_of_array(x)[0]) if len(x) == self.count else None
        shape = tuple(x.shape)
        for (batch, length), grid in self.grids.items():
            if shape[:2] == (batch, length):
                return Elements(x.flatten(0, 1), grid.ravel())
            if shape[:1] == (batch * length,):
                return Elements(x, grid.ravel())
            if len(shape) == 4 and (shape[0], shape[2]) == (batch, length):
                return Elements(x.transpose(1, 2).flatten(0, 1), grid.ravel())
        return Elements(x, np.arange(self.count)) if shape[:1] == (self.count,) else None


def rows_of_array(arr: Array[torch.Tensor]) -> np.ndarray:
    """Return the row of each element, ``(1, total)``; a tail is nobody's."""
    if arr.ragged_dim != 0:
        raise UnsupportedError(f"an audit takes Arrays whose rows come first, got ragged_dim={arr.ragged_dim}")
    offsets = to_numpy(arr.offsets)
    rows = np.full((1, arr.values.shape[0]), NOBODY)
    rows[0, : offsets[-1]] = _by_offsets(offsets)
    return rows


def _by_offsets(offsets: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(offsets.size - 1), np.diff(offsets))


def slots_of(batch: Mapping[Any, Any], names: list[Any], rows: Any) -> Slots:
    """Return the rows of a batch.

    Parameters
    ----------
    batch : mapping
        All that the model is called with.
    names : list
        What of it is perturbed: first what the batch tells the rows of, ``(batch, length, ...)`` or ``(total, ...)``;
        others may have lengths of their own, such as the tokens of a decoder.
    rows : array of whole numbers, optional
        The row of each slot, as the caller has it.

    Raises
    ------
    ShapeError
        Rows don't fit the first of them, or an attention mask doesn't.
    ArgumentError
        Rows below -1, or an attention mask of other values than 0 and 1.
    UnsupportedError
        Nothing tells the rows: positions with several numbers to a token, or a packed batch beside other lengths.
    """
    first, others = batch[names[0]], {name: batch[name] for name in names[1:]}
    if rows is not None:
        return Slots(_given(rows, first))
    if isinstance(first, Array):
        return Slots(*(rows_of_array(arr) for arr in (first, *others.values()) if isinstance(arr, Array)))
    grid = _told(batch, first)
    more = [
        (x.shape[0], x.shape[1])
        for name, x in others.items()
        if isinstance(x, torch.Tensor) and x.ndim > 1 and x.shape[0] == grid.shape[0]
        and (x.shape[1] != grid.shape[1] or str(name).startswith("decoder_"))
    ]  # fmt: skip
    if not more:
        return Slots(grid)
    whole = np.broadcast_to(np.arange(grid.shape[0])[:, None], grid.shape)
    if (grid[grid != NOBODY] != whole[grid != NOBODY]).any():
        raise UnsupportedError(
            f"inputs of {grid.shape[1]} and {more[0][1]} slots in one packed batch: which rows belong together isn't "
            "told; audit padded rows, or name one of them with inputs="
        )
    mask = batch.get("decoder_attention_mask")
    return Slots(grid, *(_masked(mask, shape) for shape in set(more)))


def _told(batch: Mapping[Any, Any], first: torch.Tensor) -> np.ndarray:
    """Return the rows that a batch tells of, in the order in which models of transformers listen."""
    shape = (first.shape[0], first.shape[1]) if first.ndim > 1 else (1, first.shape[0])
    for name in CUMULATIVE:
        if isinstance(batch.get(name), torch.Tensor):
            offsets = to_numpy(batch[name]).ravel()
            _check_offsets(name, offsets, shape)
            return _by_offsets(offsets)[None]
    if isinstance(batch.get("seq_idx"), torch.Tensor):
        return _given(batch["seq_idx"], first)
    mask, positions = batch.get("attention_mask"), batch.get("position_ids")
    grid = _masked(mask if isinstance(mask, torch.Tensor) else None, shape)
    if not isinstance(positions, torch.Tensor):
        return grid
    if positions.ndim != 2 or positions.shape[1] != shape[1]:
        raise UnsupportedError(
            f"position_ids of shape {tuple(positions.shape)} don't tell where rows begin; say it with rows="
        )
    return _cut(grid, np.broadcast_to(to_numpy(positions), shape))


def _cut(grid: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Cut sequences where positions begin anew."""
    real = np.flatnonzero(grid != NOBODY)
    steps = np.diff(positions.ravel()[real].astype(np.int64))
    begins = np.ones(real.size, bool)
    # A token that is masked in between leaves a gap in positions too, or none.
    begins[1:] = (np.diff(grid.ravel()[real]) != 0) | ((steps != 1) & (steps != np.diff(real)))
    cut = np.full(grid.size, NOBODY)
    cut[real] = np.cumsum(begins) - 1
    return cut.reshape(grid.shape)


def _masked(mask: torch.Tensor | None, shape: tuple[int, int]) -> np.ndarray:
    """Return each sequence of a batch as a row, as far as a mask says that tokens are real."""
    whole = np.repeat(np.arange(shape[0])[:, None], shape[1], axis=1)
    if mask is None:
        return whole
    if tuple(mask.shape) != shape:
        raise UnsupportedError(
            f"an attention mask of shape {tuple(mask.shape)} doesn't tell the rows of inputs {shape}; say it with rows="
        )
    host = to_numpy(mask)
    if not np.isin(host, (0, 1)).all():
        raise ArgumentError(
            f"the attention mask has the value {host[~np.isin(host, (0, 1))][0]}; if it numbers rows, say it with rows="
        )
    return np.where(host.astype(bool), whole, NOBODY)


def _check_offsets(name: str, offsets: np.ndarray, shape: tuple[int, int]) -> None:
    if shape[0] != 1 or offsets[0] != 0 or offsets[-1] != shape[1] or (np.diff(offsets) < 0).any():
        raise ShapeError(f"{name}={offsets.tolist()} must go from 0 to the length of one packed sequence, got {shape}")


def _given(rows: Any, first: Any) -> np.ndarray:
    """Return rows that the caller gave, after checking that there is one for each slot."""
    found = to_numpy(rows) if isinstance(rows, torch.Tensor) else np.asarray(rows)
    if found.dtype.kind not in "iu":
        raise ArgumentTypeError(f"rows must be whole numbers, the row of each slot, got dtype {found.dtype}")
    shape = tuple((first.values if isinstance(first, Array) else first).shape)
    grid = found[None] if found.ndim == 1 else found
    if grid.ndim != 2 or (shape[:2] != grid.shape and shape[:1] != (grid.size,)):
        raise ShapeError(
            f"rows of shape {found.shape} don't fit inputs of shape {shape}: give the row of each slot, (batch, length)"
        )
    if found.size and found.min() < NOBODY:
        raise ArgumentError(f"rows has {found.min()}; rows count from 0, and padding is {NOBODY}")
    return grid.astype(np.int64)
