"""Which tile each program computes: a map made on the device, the longest rows first.

Nothing here waits for the device. The host bounds the number of tiles by what it knows, the totals and the batch
size; programs beyond the last tile have nothing to do.
"""

from __future__ import annotations

from typing import Any

import torch

from scree_triton.attention.kernels.tiles import tiles_kernel
from scree_triton.attention.told import MANY
from scree_triton.launch import Variant, empty, memory, on_device_of
from scree_triton.power_of_2 import power_of_2


def make_tiles(offsets: torch.Tensor, others: torch.Tensor, capacity: int, block: int) -> torch.Tensor:
    """Return a map of tiles, those of the rows first that are longest on the other side.

    Parameters
    ----------
    offsets : torch.Tensor of shape (batch + 1,)
        Of the side to be cut into tiles.
    others : torch.Tensor of shape (batch + 1,)
        Of the side that each tile goes through.
    capacity : int
        ``bound`` of the number of tiles.
    block : int
        Elements of a tile.

    Returns
    -------
    torch.Tensor of int64, of shape (capacity,)
        The row, shifted left by 32 bits, and the number of the tile in its row; -1 behind the last.
    """
    batch = offsets.shape[0] - 1
    before = _before(offsets, others, block) if batch > MANY else None
    with on_device_of(offsets):
        tiles = empty(memory((capacity,), torch.int64), offsets)
        _variant(offsets, others, batch, block)(batch, offsets, others, before, tiles, batch, capacity)
    return tiles


def _before(offsets: torch.Tensor, others: torch.Tensor, block: int) -> torch.Tensor:
    """Return how many tiles lie before those of each row, and how many there are, ``(batch + 1,)``."""
    order = torch.argsort(others.diff(), descending=True, stable=True)
    count = (offsets.diff() + block - 1) // block
    behind = count[order].cumsum(0)
    before = torch.empty_like(behind).scatter_(0, order, behind - count[order])
    return torch.cat([before, behind[-1:]])


_variants: dict[Any, Variant] = {}


def _variant(offsets: torch.Tensor, others: torch.Tensor, batch: int, block: int) -> Variant:
    is_sorted = batch > MANY
    rows = min(1024, power_of_2(batch))
    key = offsets.device, offsets.dtype, others.dtype, block, rows, is_sorted
    if key not in _variants:
        _variants[key] = Variant(tiles_kernel, {"BLOCK": block, "ROWS": rows, "SORTED": is_sorted}, 4, 1)
    return _variants[key]
