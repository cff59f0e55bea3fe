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

    Parameters
    ----------
    q_layout, k_layout : Layout
        Of equal batch size; one object where the offsets are one.
    """

    __slots__ = ("_tiles", "k_layout", "launches", "q_layout")

    def __init__(self, q_layout: Layout[torch.Tensor], k_layout: Layout[torch.Tensor]) -> None:
        self.q_layout, self.k_layout = q_layout, k_layout
        self.launches: dict[Any, Any] = {}
        """What was decided about calls on these rows, by all that decides it."""
        self._tiles: dict[Any, torch.Tensor] = {}

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.q_layout.batch_size

    def query_tiles(self, total: int, block: int) -> torch.Tensor:
        """Return the map of the tiles of so many queries each, of ``total`` in all; see ``make_tiles``."""
        return self._tiles_of(self.q_layout, self.k_layout, total, block)

    def key_tiles(self, total: int, block: int) -> torch.Tensor:
        """Return the map of the tiles of so many keys each."""
        return self._tiles_of(self.k_layout, self.q_layout, total, block)

    def _tiles_of(
        self, layout: Layout[torch.Tensor], other: Layout[torch.Tensor], total: int, block: int
    ) -> torch.Tensor:
        key = block, layout is self.q_layout
        if key not in self._tiles:
            # Kept, an inference tensor would break the first training step that saves it.
            with torch.inference_mode(False):
                self._tiles[key] = make_tiles(layout.offsets, other.offsets, bound(layout, total, block), block)
        return self._tiles[key]


def batch_of(q_layout: Layout[torch.Tensor], k_layout: Layout[torch.Tensor]) -> Batch:
    """Return the batch of two layouts: the one that is kept with them, where their offsets hold values.

    While a CUDA graph is captured they don't: what is made then is made again in each replay.
    """
    offsets, other = q_layout.offsets, k_layout.offsets
    if offsets is other:
        k_layout = q_layout
    capturing = offsets.is_cuda and torch.cuda.is_current_stream_capturing()
    if capturing or not is_real(offsets) or not (offsets is other or is_real(other)):
        return Batch(q_layout, k_layout)
    if offsets is other:
        return q_layout.derived("triton batch", lambda: Batch(q_layout, q_layout))
    beside = q_layout.derived("triton batches", weakref.WeakKeyDictionary)
    found = beside.get(k_layout)
    if found is None:
        found = beside[k_layout] = Batch(q_layout, k_layout)
    return found
