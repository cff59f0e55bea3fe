"""bfloat16 in NumPy, which another library brings."""

from __future__ import annotations

import numpy as np

from scree_core.errors import BackendNotInstalledError


def bfloat16() -> np.dtype:
    """Return the dtype, which NumPy knows from then on; raise an error that says what to install otherwise."""
    try:
        import ml_dtypes
    except ModuleNotFoundError as error:
        raise BackendNotInstalledError(
            "the file holds bfloat16, which NumPy knows by the library ml_dtypes alone.\n    pip install ml-dtypes"
        ) from error
    return np.dtype(ml_dtypes.bfloat16)
