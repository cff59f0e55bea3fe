"""The int64 that other systems want, as far as a library has it."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_int64(backend: Any, x: Any) -> Any:
    """Return integers or bools as int64; as int32 in JAX without x64, which would warn of what it does anyway."""
    widest = backend.dtype_name(backend.from_numpy(np.zeros(0, np.int64), like=x))
    return x if backend.dtype_name(x) == widest else backend.astype(x, widest)
