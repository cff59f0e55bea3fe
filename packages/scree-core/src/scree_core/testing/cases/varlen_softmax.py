"""Cases of ``varlen_softmax``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.testing.case import FORWARD_ONLY, LENGTHS, Case, Dense, ErrorCase, Rows, draw_rows

OP = "varlen_softmax"


def _softmax(lengths: tuple[int, ...], *features: int, size: float = 1.0, shift: float = 0.0, **rows: Any) -> Any:
    def draw(rng: np.random.Generator) -> dict[str, Any]:
        return {"x": Rows(rng.standard_normal((sum(lengths), *features)) * size + shift, lengths, **rows)}

    return draw


def _some_minus_infinity(rng: np.random.Generator) -> dict[str, Any]:
    x = draw_rows(rng, (3, 2, 4), 2)
    x.values[1, 0] = -np.inf
    x.values[3:5] = -np.inf
    return {"x": x}


CASES = [
    *(Case(OP, name, _softmax(lengths, 3)) for name, lengths in LENGTHS.items()),
    Case(OP, "scalars", _softmax((3, 0, 5))),
    Case(OP, "no_features", _softmax((3, 5), 0)),
    Case(OP, "many_features", _softmax((3, 5), 2, 3)),
    Case(OP, "large_scores", _softmax((3, 5), 3, size=50.0)),
    Case(OP, "shifted", _softmax((3, 5), 3, shift=100.0)),
    Case(OP, "int64_offsets", _softmax((3, 5), 3, offsets_dtype="int64")),
    Case(OP, "ragged_dim_last", _softmax((3, 5), 2, 4, ragged_dim=2), tags=FORWARD_ONLY),
    Case(OP, "strided", _softmax((3, 5), 4, strided=True)),
    Case(OP, "ragged_dim_1", _softmax((3, 5), 4, ragged_dim=1), tags=FORWARD_ONLY),
    Case(OP, "poisoned", _softmax((3, 5, 2), 3), tags=frozenset({"poison"})),
    Case(OP, "poisoned_scalars", _softmax((3, 5, 2)), tags=frozenset({"poison"})),
    Case(OP, "minus_infinity", _some_minus_infinity),
]

ERRORS = [
    ErrorCase(OP, "dense", lambda rng: {"x": Dense(np.zeros(3))}, ArgumentTypeError, "x must be a scree.Array"),
    ErrorCase(
        OP, "integers", lambda rng: {"x": Rows(np.zeros(3, np.int32), (3,))}, ShapeError, "floating-point x, got int32"
    ),
]
