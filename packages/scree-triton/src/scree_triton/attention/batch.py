"""The rows of queries and keys, and what is worth keeping between calls on them."""

from __future__ import annotations

import weakref
from typing import NamedTuple

import torch

from scree_core.layout import Layout
from scree_torch.tracing import PLAIN
from scree_triton.attention.tiles import make_tiles
from scree_triton.attention.told import bound


class Tiles(NamedTuple):
    """Tiles of one side."""

    most: int
    """How many there may be."""
    block: int
    """Queries, or keys, of each."""


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

    __slots__ = ("_key_tiles", "_query_tiles", "k_offsets", "maxima", "q_offsets", "size")

    def __init__(self, q_offsets: torch.Tensor, k_offsets: torch.Tensor, max_q: int | None, max_k: int | None) -> None:
        self.q_offsets, self.k_offsets = q_offsets, k_offsets
        self.size: int = q_offsets.shape[0] - 1
        """Number of rows."""
        self.maxima = max_q, max_k
        """Bounds of their lengths."""
        self._query_tiles: dict[int, torch.Tensor] = {}
        # Where both lie alike, one map serves for both.
        self._key_tiles = self._query_tiles if k_offsets is q_offsets else {}

    def query_tiles(self, total: int, block: int) -> Tiles:
        """Return the tiles of so many queries each, of ``total`` queries in all."""
        return Tiles(bound(self.size, total, self.maxima[0], block), block)

    def key_tiles(self, total: int, block: int) -> Tiles:
        """Return the tiles of so many keys each, of ``total`` keys in all."""
        return Tiles(bound(self.size, total, self.maxima[1], block), block)

    def map_of_queries(self, tiles: Tiles) -> torch.Tensor:
        """Return the map of tiles of queries; see ``make_tiles``."""
        found = self._query_tiles.get(tiles.block)
        if found is None:
            found = self._query_tiles[tiles.block] = make_tiles(self.q_offsets, self.k_offsets, *tiles)
        return found

    def map_of_keys(self, tiles: Tiles) -> torch.Tensor:
        """Return the map of tiles of keys."""
        found = self._key_tiles.get(tiles.block)
        if found is None:
            found = self._key_tiles[tiles.block] = make_tiles(self.k_offsets, self.q_offsets, *tiles)
        return found


def batch_of(q_layout: Layout[torch.Tensor], k_layout: Layout[torch.Tensor]) -> Batch:
    """Return the batch of two layouts: the one that is kept with them, where their offsets hold values.

    While a CUDA graph is captured they don't: what is made then is made again in each replay. Nor under a trace, when
    this mustn't be called.
    """
    offsets, others = q_layout.offsets, k_layout.offsets

    def make() -> Batch:
        return Batch(offsets, others, q_layout.max_length, k_layout.max_length)

    capturing = offsets.is_cuda and torch.cuda.is_current_stream_capturing()
    if capturing or type(offsets) not in PLAIN or type(others) not in PLAIN:
        return make()
    if offsets is others:
        return q_layout.derived("triton batch", make)
    beside = q_layout.derived("triton batches", weakref.WeakKeyDictionary)
    found = beside.get(k_layout)
    if found is None:
        found = beside[k_layout] = make()
    return found
