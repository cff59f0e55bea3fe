"""Cases of ``to_padded``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.testing.case import FORWARD_ONLY, LENGTHS, Case, Dense, ErrorCase, Rows, draw_rows

OP = "to_padded"


def _pad(lengths: tuple[int, ...], features: tuple[int, ...] = (3,), **options: Any) -> Any:
    rows = {name: options.pop(name) for name in ("ragged_dim", "offsets_dtype", "strided") if name in options}
    return lambda rng: {"arr": draw_rows(rng, lengths, *features, **rows), **options}


def _integers(rng: np.random.Generator) -> dict[str, Any]:
    return {"arr": Rows(np.arange(5, dtype=np.int32), (2, 0, 3)), "fill_value": -7}


CASES = [
    *(Case(OP, name, _pad(lengths)) for name, lengths in LENGTHS.items()),
    *(Case(OP, f"left_{name}", _pad(lengths, side="left", fill_value=-1.5)) for name, lengths in LENGTHS.items()),
    Case(OP, "poisoned", _pad((3, 1, 2)), tags=frozenset({"poison"})),
    Case(OP, "wider", _pad((3, 0, 5), max_length=8)),
    Case(OP, "scalars", _pad((2, 3), ())),
    Case(OP, "no_features", _pad((2, 3), (0,))),
    Case(OP, "ragged_dim_1", _pad((2, 3), (4, 2), ragged_dim=1), tags=FORWARD_ONLY),
    Case(OP, "int64_offsets", _pad((2, 3), offsets_dtype="int64")),
    Case(OP, "strided", _pad((2, 3), strided=True)),
    Case(OP, "integers", _integers, integer=True),
    Case(OP, "booleans", lambda rng: {"arr": Rows(np.ones(5, bool), (2, 3)), "fill_value": True}, integer=True),
]

ERRORS = [
    ErrorCase(
        OP, "dense", lambda rng: {"arr": Dense(np.zeros((2, 3)))}, ArgumentTypeError, "arr must be a scree.Array"
    ),
    ErrorCase(OP, "side", _pad((2,), side="up"), ArgumentError, "side must be .* got 'up'"),
    ErrorCase(OP, "too_short", _pad((2, 5), max_length=4), ShapeError, r"max_length=4 .* longest row \(5 elements\)"),
]
