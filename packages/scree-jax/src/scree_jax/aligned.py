"""Memory of NumPy's that JAX on a CPU takes over as it is.

JAX uses host memory in place where it begins at a multiple of 64 bytes, and else copies it; large arrays of NumPy's
begin 16 bytes behind one. Packing 1,000 rows of 24 MB takes 10 ms so, and 25 with the copy (2 CPU cores, 2026-11-22).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ALIGNMENT = 64
"""Bytes."""


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array to fill and to hand to ``jax.device_put``, after which nobody may write to it."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
