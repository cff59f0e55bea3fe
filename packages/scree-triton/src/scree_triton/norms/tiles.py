"""How many rows a program takes, and how many warps: what keeps a tile in registers and the memory busy."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import triton

WIDEST = 16384
"""Features of a row that fit in the registers of one program; wider rows are read block by block."""


class Tile(NamedTuple):
    """What one program holds."""

    rows: int
    block: int
    """Features, to the next power of 2."""
    warps: int


@functools.cache
def forward_tile(features: int) -> Tile:
    """Return 4,096 elements or one row, 16 or 32 of them per thread."""
    block = triton.next_power_of_2(features)
    return Tile(max(1, 4096 // block), block, 4 if block <= 2048 else min(block // 512, 16))


@functools.cache
def backward_tile(features: int) -> Tile:
    """Return 2,048 elements or one row, 16 of them per thread as long as that is possible.

    For each element a thread holds x, the gradient of the output, the weight, and the sums for weight and bias.
    """
    block = triton.next_power_of_2(features)
    return Tile(max(1, 2048 // block), block, max(4, min(block // 512, 16)))


def backward_programs(tile: Tile, device: torch.device) -> int:
    """Return how many programs go over the rows: 16 warps for each multiprocessor, which its registers hold."""
    return _properties(device)[0] * (16 // tile.warps)


def backward_stages(tile: Tile, itemsize: int, device: torch.device) -> int:
    """Return 3, for two tiles on their way while a third is computed, or fewer where memory is short for them."""
    of_one = 2 * itemsize * tile.rows * tile.block
    return max(1, min(3, 1 + (_properties(device)[1] - 4096) // of_one))


WIDE = Tile(1, 4096, 8)
"""Of wide rows, one block at a time."""
WIDE_COLUMNS = Tile(16, 128, 4)
"""Of wide rows, where columns are added up."""


def wide_parts(features: int, device: torch.device) -> int:
    """Return into how many parts rows are cut where columns are added up: for 8 programs per multiprocessor."""
    return triton.cdiv(8 * _properties(device)[0], triton.cdiv(features, WIDE_COLUMNS.block))


@functools.cache
def _properties(device: torch.device) -> tuple[int, int]:
    """Return the number of multiprocessors and the bytes of memory that a program may share; some for a CPU."""
    if device.type == "cpu":  # the interpreter
        return 2, 2**16
    found = torch.cuda.get_device_properties(device)
    return found.multi_processor_count, getattr(found, "shared_memory_per_block_optin", found.shared_memory_per_block)
