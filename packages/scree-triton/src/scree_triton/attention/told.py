"""What a kernel is told about a call beside its arrays, whatever library these are of."""

from __future__ import annotations

import math
from typing import Any

from scree_triton.power_of_2 import power_of_2

LOG2E = math.log2(math.e)
MANY = 4096
"""Rows from which on a sort is cheaper than each row's comparison with all others."""


def bound(batch: int, total: int, longest: int | None, block: int) -> int:
    """Return a number of tiles that no batch of so many rows exceeds, from what the host knows of their lengths."""
    tiles = total // block + batch
    return tiles if longest is None else min(tiles, batch * -(-longest // block))


def typical_length(total: int, batch: int) -> float:
    """Return the mean length of rows, down to a power of 2: what tiles are chosen for."""
    return 2.0 ** ((total // batch).bit_length() - 1)


def planes(itemsize: int) -> int:
    """Return how many numbers are kept of each query and head for backward: two of float32, one of halves."""
    return 2 if itemsize == 4 else 1


def sums(architecture: str, itemsize: int) -> int:
    """Return in how many places forward adds up the weights of a query.

    Of a product that Hopper's tensor cores have left in registers, a thread holds two of each 8 columns: so many sums
    take no other thread's. Exact products lie otherwise, and on other GPUs nobody has measured.
    """
    return 8 if itemsize == 2 and architecture in ("sm_90", "interpreter") else 1


def numbers(
    *, causal: bool, scale: float, window: tuple[int, int], softcap: float | None
) -> tuple[float, float, int, int]:
    """Return the kernels' factor of products and cap, both in base 2, and window."""
    left, right = window
    cap = 1.0 if softcap is None else softcap * LOG2E
    return (abs(scale) or 1.0) * LOG2E, cap, left, 0 if causal else right


def constants(
    heads: tuple[int, int],
    dims: tuple[int, int],
    *,
    causal: bool,
    scale: float,
    window: tuple[int, int],
    softcap: float | None,
    exact: bool,
    upcast: bool,
) -> dict[str, Any]:
    """Return the constants of the three kernels of attention, but for their tile.

    Parameters
    ----------
    heads : tuple of int
        Of queries and of keys.
    dims : tuple of int
        ``head_dim`` of queries and keys, and of values.
    causal, scale, window, softcap
        The options of the call.
    exact : bool
        Whether products are those of float32.
    upcast : bool
        Whether halves are computed as float32: Triton's interpreter computes bfloat16 wrongly.
    """
    width = power_of_2(dims[0])
    return {
        "GROUP": heads[0] // heads[1],
        "D": dims[0],
        "DV": dims[1],
        "BLOCK_D": width,
        # ptxas 12.8, which Triton 3.6 brings, makes wrong code for values that are narrower than keys and than 64.
        "BLOCK_DV": max(power_of_2(dims[1]), min(width, 64)),
        "LEFT": window[0] >= 0,
        "RIGHT": causal or window[1] >= 0,
        "SIGN": (scale > 0) - (scale < 0),
        "SOFTCAP": softcap is not None,
        "EXACT": exact,
        "UPCAST": upcast,
        "PRECISION": "ieee" if exact or upcast else "tf32",
    }
