"""Cases of ``pack``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.testing.case import FORWARD_ONLY, LENGTHS, Case, Dense, ErrorCase

OP = "pack"


def _arrays(lengths: tuple[int, ...], *features: int) -> Any:
    return lambda rng: {"arrays": [Dense(rng.standard_normal((n, *features))) for n in lengths]}


CASES = [
    *(Case(OP, name, _arrays(lengths, 3)) for name, lengths in LENGTHS.items() if lengths),
    Case(OP, "scalars", _arrays((2, 0, 3))),
    Case(OP, "many_features", _arrays((2, 1), 2, 1, 3)),
    Case(OP, "no_features", _arrays((2, 1), 0)),
    Case(
        OP,
        "ragged_dim_1",
        lambda rng: {"arrays": [Dense(rng.standard_normal((3, n))) for n in (2, 0, 4)], "ragged_dim": 1},
        tags=FORWARD_ONLY,
    ),
    Case(OP, "integers", lambda rng: {"arrays": [Dense(np.arange(n, dtype=np.int32)) for n in (2, 3)]}, integer=True),
    Case(OP, "booleans", lambda rng: {"arrays": [Dense(np.arange(n) % 2 == 0) for n in (2, 3)]}, integer=True),
]

ERRORS = [
    ErrorCase(OP, "empty", lambda rng: {"arrays": []}, ShapeError, "empty"),
    ErrorCase(
        OP, "list", lambda rng: {"arrays": [[1.0]]}, ArgumentTypeError, r"arrays\[0\] must be an array, got list"
    ),
    ErrorCase(
        OP,
        "dtype",
        lambda rng: {"arrays": [Dense(np.zeros(2)), Dense(np.zeros(2)), Dense(np.zeros(2, np.int32))]},
        ShapeError,
        r"arrays\[2\] has dtype",
    ),
    ErrorCase(
        OP,
        "ndim",
        lambda rng: {"arrays": [Dense(np.zeros(2)), Dense(np.zeros((2, 1)))]},
        ShapeError,
        r"arrays\[1\] is 2-D",
    ),
    ErrorCase(
        OP,
        "features",
        lambda rng: {"arrays": [Dense(np.zeros((2, 3))), Dense(np.zeros((2, 4)))]},
        ShapeError,
        r"arrays\[1\] has shape \(2, 4\)",
    ),
    ErrorCase(
        OP,
        "ragged_dim",
        lambda rng: {"arrays": [Dense(np.zeros((2, 3)))], "ragged_dim": 5},
        ShapeError,
        "ragged_dim=5 out of range for 2-D values",
    ),
]
