"""Cases of ``varlen_rope``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.testing.case import FORWARD_ONLY, LENGTHS, Case, Dense, ErrorCase, Rows, draw_rows

OP = "varlen_rope"
MAX_POSITION = 64


def _tables(half: int, max_position: int = MAX_POSITION) -> dict[str, Dense]:
    angles = np.arange(max_position)[:, None] * 10000.0 ** (-np.arange(half) / half)
    return {"cos": Dense(np.cos(angles)), "sin": Dense(np.sin(angles))}


def _rope(
    lengths: tuple[int, ...],
    *features: int,
    half: int | None = None,
    rows: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    tables = _tables(features[-1] // 2 if half is None else half)
    return lambda rng: {"x": draw_rows(rng, lengths, *features, **(rows or {})), **tables, **options}


POSITIONS = np.array([5, 0, 63, 7, 7, 1, 2, 40], np.int32)

CASES = [
    *(Case(OP, name, _rope(lengths, 2, 8)) for name, lengths in LENGTHS.items()),
    Case(OP, "interleaved", _rope((3, 0, 5), 2, 8, interleaved=True)),
    Case(OP, "partial", _rope((3, 5), 2, 8, half=3)),
    Case(OP, "partial_interleaved", _rope((3, 5), 2, 8, half=3, interleaved=True)),
    Case(OP, "no_heads", _rope((3, 5), 8)),
    Case(OP, "positions", _rope((3, 5), 2, 8, positions=Dense(POSITIONS))),
    Case(OP, "positions_of_an_array", _rope((3, 5), 2, 8, positions=Rows(POSITIONS, (3, 5)))),
    Case(OP, "int64_offsets", _rope((3, 5), 2, 8, rows={"offsets_dtype": "int64"})),
    Case(OP, "strided", _rope((3, 5), 2, 8, rows={"strided": True})),
    Case(OP, "ragged_dim_1", _rope((3, 5), 2, 8, rows={"ragged_dim": 1}), tags=FORWARD_ONLY),
    Case(OP, "poisoned", _rope((3, 5, 2), 2, 8), tags=frozenset({"poison"})),
]


def _wrong(match: str, error: type[Exception] = ShapeError, *, name: str, **changes: Any) -> ErrorCase:
    return ErrorCase(OP, name, lambda rng: {**_rope((3, 2), 2, 8)(rng), **changes}, error, match)


ERRORS = [
    _wrong("x must be a scree.Array", ArgumentTypeError, name="dense", x=Dense(np.zeros((5, 8)))),
    _wrong(
        "one for each feature; pass one for each pair",
        name="doubled_tables",
        cos=_tables(8)["cos"],
        sin=_tables(8)["sin"],
    ),
    _wrong("head_dim 8 has 4 pairs", name="wide_tables", cos=_tables(5)["cos"], sin=_tables(5)["sin"]),
    _wrong("must have one shape", name="table_shapes", cos=Dense(np.zeros((4, 4)))),
    _wrong(
        "hold 2 positions, the longest row needs 3",
        name="short_tables",
        cos=_tables(4, 2)["cos"],
        sin=_tables(4, 2)["sin"],
    ),
    _wrong(r"positions must have shape \(total,\) = \(5,\)", name="positions", positions=Dense(np.zeros(4, np.int32))),
    _wrong("positions must be integers", name="float_positions", positions=Dense(np.zeros(5))),
]
