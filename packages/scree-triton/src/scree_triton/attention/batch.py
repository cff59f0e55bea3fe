"""The rows of queries and keys, and what is worth keeping between calls on them."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from scree_core.layout import Layout
from scree_torch.tracing import is_real
from scree_triton.attention.tiles import bound, make_tiles


class Batch:
    """Where the rows of queries and keys lie, with the maps of their tiles, each made when it is first asked for.

    It is kept with a layout, so it mustn't hold one: a cycle would outlive the last array until Python's collector
    runs, and its memory on the device too.

    Parameters
    ----------
    q_offsets, k_offsets : torch.Tensor of shape (batch + 1,)
        Row boundaries; one object where queries and keys lie alike.
    max_q, max_k : int, optional
        Bounds of the row lengths.
    """

    __slots__ = ("_maxima", "_tiles", "k_offsets", "plans", "q_offsets", "size")

    def __init__(self, q_offsets: torch.Tensor, k_offsets: torch.Tensor, max_q: int | None, max_k: int | None) -> None:
        self.q_offsets, self.k_offsets = q_offsets, k_offsets
        self.size: int = q_offsets.shape[0] - 1
        """Number of rows."""
        self.plans: dict[Any, Any] = {}
        """What was decided about calls on these rows, by all that decides it: ``run.Plan``."""
        self._maxima = max_q, max_k
        self._tiles: dict[Any, torch.Tensor] = {}

    def query_tiles(self, total: int, block: int) -> torch.Tensor:
        """Return the map of the tiles of so many queries each, of ``total`` in all; see ``make_tiles``."""
        return self._tiles_of(self.q_offsets, self.k_offsets, total, self._maxima[0], block)

    def key_tiles(self, total: int, block: int) -> torch.Tensor:
        """Return the map of the tiles of so many keys each."""
        return self._tiles_of(self.k_offsets, self.q_offsets, total, self._maxima[1], block)

    def _tiles_of(
        self, offsets: torch.Tensor, others: torch.Tensor, total: int, longest: int | None, block: int
    ) -> torch.Tensor:
        key = block, offsets is self.q_offsets
        if key not in self._tiles:
            self._tiles[key] = make_tiles(offsets, others, bound(self.size, total, longest, block), block)
        return self._tiles[key]


def batch_of(q_layout: Layout[torch.Tensor], k_layout: Layout[torch.Tensor]) -> Batch:
    """Return the batch of two layouts: the one that is kept with them, where their offsets hold values.

    While a CUDA graph is captured they don't: what is made then is made again in each replay.
    """
    offsets, others = q_layout.offsets, k_layout.offsets
    parts = offsets, others, q_layout.max_length, k_layout.max_length
    capturing = offsets.is_cuda and torch.cuda.is_current_stream_capturing()
    if capturing or not is_real(offsets) or not (offsets is others or is_real(others)):
        return Batch(*parts)
    if offsets is others:
        return q_layout.derived("triton batch", lambda: Batch(*parts))
    beside = q_layout.derived("triton batches", weakref.WeakKeyDictionary)
    found = beside.get(k_layout)
    if found is None:
        found = beside[k_layout] = Batch(*parts)
    return found
