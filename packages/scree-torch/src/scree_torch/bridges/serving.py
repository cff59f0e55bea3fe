"""What a serving engine knows of a step: new tokens of several requests, and where all keys lie in a paged cache."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from typing import Any

import numpy as np
import torch

from scree_core import Array, Layout
from scree_core.errors import ArgumentError, ArgumentTypeError
from scree_core.layout import offsets_from_lengths
from scree_core.registry import backend_of
from scree_torch.segments import positions, segment_ids


@dataclasses.dataclass(frozen=True, eq=False)
class ServingBatch:
    """The rows of one step, whichever engine it is of.

    Parameters
    ----------
    queries : Layout
        The tokens that are computed in this step, a row for each request; with a tail where their number is padded.
    key_lengths : integer tensor of shape (batch,)
        Keys that the last token of each row sees: those that the cache had, and the new ones.
    slots : integer tensor of shape (total_q,), optional
        Where in the cache the keys of the new tokens go.
    block_table : integer tensor of shape (batch, blocks), optional
        The blocks of the cache that each row has, in order; what is behind its last one may be anything.
    block_size : int, optional
        Tokens of a block.
    causal : bool, default True
        Whether a token sees none behind it.
    max_key_length : int, optional
        No row has more keys.

    Notes
    -----
    Nothing is copied, and nothing read from a device. ``scree.Array.trusted(q, batch.queries)`` are the queries, and
    with ``slots = batch.key_slots()`` the keys are ``slots.with_values(cache[slots.values])``; then
    ``scree.varlen_attention(q, k, v, causal=batch.causal)`` is the step: aligned to the bottom right, as rows that
    continue want it.
    """

    queries: Layout[torch.Tensor]
    key_lengths: torch.Tensor
    slots: torch.Tensor | None = None
    block_table: torch.Tensor | None = None
    block_size: int | None = None
    causal: bool = True
    max_key_length: int | None = None

    @property
    def batch_size(self) -> int:
        """Number of requests."""
        return self.queries.batch_size

    @property
    def context_lengths(self) -> torch.Tensor:
        """Keys of each row that the cache had before this step, ``(batch,)`` int64; no sync."""
        return self.key_lengths.to(torch.int64) - self.queries.lengths

    @property
    def positions(self) -> torch.Tensor:
        """Position of each new token in its row, ``(total_q,)`` int64, in a tail 0; no sync."""
        return self._places()[1]

    def new_slots(self) -> torch.Tensor:
        """Return the slots that the block table has for the new tokens, ``(total_q,)`` int64, in a tail -1; no sync.

        ``block_table[row, position // block_size] * block_size + position % block_size``: the engine's own are
        ``slots``.
        """
        ids, places = self._places()
        slots = self._slots(ids.clamp(max=max(self.batch_size - 1, 0)), places)
        return torch.where(ids < self.batch_size, slots, -1)

    def key_slots(self) -> Array[torch.Tensor]:
        """Return the slots of all keys, row by row: an Array ``(total_k,)`` int64.

        Notes
        -----
        Reads ``key_lengths`` from a device, a sync, since their sum is the size of the result.
        """
        host = self.key_lengths.cpu().numpy().astype(np.int64)
        layout = backend_of(self.key_lengths).layout_from_host(offsets_from_lengths(host), like=self.key_lengths)
        total = int(host.sum())
        ids = segment_ids(layout.offsets, total)
        return Array.trusted(self._slots(ids, positions(layout.offsets, ids, tail=False)), layout)

    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the row of each new token, and its position there."""
        if self.queries.total is None:
            raise ArgumentError("queries don't know their total; make the Layout with total=")
        ids = segment_ids(self.queries.offsets, self.queries.total)
        before = torch.nn.functional.pad(self.context_lengths, (0, 1))  # a tail is one more row
        return ids, positions(self.queries.offsets, ids, tail=self.queries.tail) + before.index_select(0, ids)

    def _slots(self, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        if self.block_table is None or self.block_size is None:
            missing = "block_table" if self.block_table is None else "block_size"
            raise ArgumentError(f"this ServingBatch has no {missing}, without which nobody knows its slots")
        table, size = self.block_table, self.block_size
        places = places.to(torch.int64)
        if not places.numel():
            return places
        blocks = table.reshape(-1).index_select(0, rows.to(torch.int64) * table.shape[1] + places // size)
        return blocks.to(torch.int64) * size + places % size


def fields_of(batch: Any, names: tuple[str, ...], kind: str, package: str, known: str) -> list[Any]:
    """Return fields by name, or say which is missing and of which versions the names are known."""
    missing = [name for name in names if not hasattr(batch, name)]
    if missing:
        try:
            there = f"{package} {metadata.version(package)} is installed"
        except metadata.PackageNotFoundError:
            there = f"{package} isn't installed"
        raise ArgumentTypeError(
            f"a {type(batch).__name__} has no {', '.join(missing)}: scree reads the {kind} of {package} {known} by its "
            f"names, and {there}; make a scree.bridges.ServingBatch of what it has instead"
        )
    return [getattr(batch, name) for name in names]
