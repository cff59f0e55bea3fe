"""Cases of ``repeat_rows``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.testing.case import LENGTHS, Case, Dense, ErrorCase, Rows

OP = "repeat_rows"


def _spread(lengths: tuple[int, ...], *features: int) -> Any:
    return lambda rng: {
        "dense": Dense(rng.standard_normal((len(lengths), *features))),
        "like": Rows(np.zeros(sum(lengths), np.int32), lengths),
    }


CASES = [
    *(Case(OP, name, _spread(lengths, 3)) for name, lengths in LENGTHS.items()),
    Case(OP, "scalars", _spread((2, 0, 3))),
    Case(OP, "many_features", _spread((2, 1), 2, 3)),
]

ERRORS = [
    ErrorCase(
        OP,
        "batch",
        lambda rng: {"dense": Dense(np.zeros((3, 2))), "like": Rows(np.zeros(4), (1, 3))},
        ShapeError,
        "batch = 2, got",
    ),
    ErrorCase(
        OP,
        "dense",
        lambda rng: {"dense": Dense(np.zeros((3, 2))), "like": Dense(np.zeros(3))},
        ArgumentTypeError,
        "like must be a scree.Array",
    ),
]
