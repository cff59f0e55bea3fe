"""Cases of ``varlen_cumsum``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentTypeError
from scree_core.testing.case import FORWARD_ONLY, LENGTHS, Case, Dense, ErrorCase, Rows, draw_rows

OP = "varlen_cumsum"


def _cumsum(lengths: tuple[int, ...], *features: int, **rows: Any) -> Any:
    return lambda rng: {"x": draw_rows(rng, lengths, *features, **rows)}


CASES = [
    *(Case(OP, name, _cumsum(lengths, 3)) for name, lengths in LENGTHS.items()),
    Case(OP, "scalars", _cumsum((3, 0, 5))),
    Case(OP, "no_features", _cumsum((3, 5), 0)),
    Case(OP, "int64_offsets", _cumsum((3, 5), 3, offsets_dtype="int64")),
    Case(OP, "strided", _cumsum((3, 5), 4, strided=True)),
    Case(OP, "ragged_dim_1", _cumsum((3, 5), 4, ragged_dim=1), tags=FORWARD_ONLY),
    Case(OP, "poisoned", _cumsum((3, 5, 2), 3), tags=frozenset({"poison"})),
    Case(OP, "large_neighbour", lambda rng: {"x": Rows(np.array([3e4, 3e4, 1e-3, 1e-3, 2e-3]), (2, 3))}),
    Case(OP, "int32", lambda rng: {"x": Rows(np.arange(6, dtype=np.int32), (2, 0, 4))}, integer=True),
    Case(OP, "int8", lambda rng: {"x": Rows(np.full(6, 100, np.int8), (3, 3))}, integer=True),
]

ERRORS = [ErrorCase(OP, "dense", lambda rng: {"x": Dense(np.zeros(3))}, ArgumentTypeError, "x must be a scree.Array")]
