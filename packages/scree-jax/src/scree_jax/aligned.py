"""Memory of NumPy's that JAX on a CPU takes over as it is.

JAX uses host memory in place where it begins at a multiple of 64 bytes, and else copies it; large arrays of NumPy's
begin 16 bytes behind one. Packing 1,000 rows of 24 MB takes 10 ms so, and 25 with the copy (2 CPU cores, 2026-11-22).
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

ALIGNMENT = 64
"""Bytes."""
SHARE = 4 * 2**20
"""Bytes for which another thread is worth starting: 24 MB take 7.1 ms to gather with one, 4.0 with two."""
THREADS = 8
"""At most."""


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array to fill and to hand to ``jax.device_put``, after which nobody may write to it."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def take(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Gather elements along the first axis by valid indices into such memory, in several threads if there is much."""
    out = empty((len(index), *x.shape[1:]), x.dtype)
    threads = min(THREADS, _cores(), out.nbytes // SHARE)

    def part(i: int) -> None:
        piece = slice(len(index) * i // threads, len(index) * (i + 1) // threads)
        # In any other mode NumPy would fill a copy of out first.
        np.take(x, index[piece], axis=0, out=out[piece], mode="clip")

    if threads <= 1:
        return np.take(x, index, axis=0, out=out, mode="clip")
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, range(threads)))
    return out


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
