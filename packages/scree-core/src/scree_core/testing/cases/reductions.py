"""Cases of ``varlen_sum``, ``varlen_mean``, ``varlen_max``, ``varlen_min`` and ``varlen_logsumexp``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.testing.case import FORWARD_ONLY, LENGTHS, Case, Dense, ErrorCase, Rows, draw_rows

OPS = ("varlen_sum", "varlen_mean", "varlen_max", "varlen_min", "varlen_logsumexp")


def _reduce(lengths: tuple[int, ...], *features: int, rows: dict[str, Any] | None = None, **options: Any) -> Any:
    return lambda rng: {"x": draw_rows(rng, lengths, *features, **(rows or {})), **options}


def _long_ones(rng: np.random.Generator) -> dict[str, Any]:
    return {"x": Rows(np.ones((1030, 1)), (1024, 6))}  # bfloat16 stops counting at 256


def _ties(rng: np.random.Generator) -> dict[str, Any]:
    return {"x": Rows(np.array([1.0, 2.0, 2.0, 0.0, 0.0, 3.0]), (3, 2, 1))}


def _integers(dtype: str) -> Any:
    values = np.array([100, 100, 100, 7, -3, 5]).astype(dtype)
    return lambda rng: {"x": Rows(values, (3, 0, 3)), "empty": 1}


def _some_minus_infinity(rng: np.random.Generator) -> dict[str, Any]:
    x = draw_rows(rng, (3, 2, 4))
    x.values[1] = -np.inf
    x.values[3:5] = -np.inf
    return {"x": x}


CASES = [
    *(Case(op, name, _reduce(lengths, 3)) for op in OPS for name, lengths in LENGTHS.items()),
    *(Case(op, "scalars", _reduce((3, 0, 5))) for op in OPS),
    *(Case(op, "no_features", _reduce((3, 0, 5), 0)) for op in OPS),
    *(Case(op, "many_features", _reduce((3, 5), 2, 3)) for op in OPS),
    *(Case(op, "wide", _reduce((3, 0, 5), 200)) for op in OPS),
    *(Case(op, "empty_nan", _reduce((3, 0, 5), 2, empty="nan")) for op in OPS),
    *(Case(op, "empty_number", _reduce((0, 3, 0), 2, empty=-7)) for op in OPS),
    *(Case(op, "empty_error", _reduce((3, 1), 2, empty="error")) for op in OPS),
    *(Case(op, "int64_offsets", _reduce((3, 0, 5), 3, rows={"offsets_dtype": "int64"})) for op in OPS),
    *(Case(op, "strided", _reduce((3, 0, 5), 4, rows={"strided": True})) for op in OPS),
    *(Case(op, "ragged_dim_1", _reduce((3, 0, 5), 4, rows={"ragged_dim": 1}), tags=FORWARD_ONLY) for op in OPS),
    *(Case(op, "poisoned", _reduce((3, 5, 2), 3), tags=frozenset({"poison"})) for op in OPS),
    *(Case(op, "poisoned_scalars", _reduce((3, 5, 2)), tags=frozenset({"poison"})) for op in OPS),
    *(Case(op, "long_ones", _long_ones) for op in ("varlen_sum", "varlen_mean")),
    *(Case(op, "ties", _ties) for op in ("varlen_max", "varlen_min")),
    *(Case(op, "int32", _integers("int32"), integer=True) for op in ("varlen_sum", "varlen_max", "varlen_min")),
    *(Case(op, "int8", _integers("int8"), integer=True) for op in ("varlen_sum", "varlen_max", "varlen_min")),
    Case("varlen_sum", "booleans", lambda rng: {"x": Rows(np.ones(6, bool), (3, 0, 3))}, integer=True),
    Case("varlen_logsumexp", "large", lambda rng: {"x": Rows(np.array([90.0, 90.0, -90.0, -90.0]), (2, 2))}),
    Case("varlen_logsumexp", "minus_infinity", _some_minus_infinity),
]

ERRORS = [
    *(
        ErrorCase(op, "dense", lambda rng: {"x": Dense(np.zeros(3))}, ArgumentTypeError, "x must be a scree.Array")
        for op in OPS
    ),
    *(ErrorCase(op, "empty_row", _reduce((3, 0), 2, empty="error"), ShapeError, f"{op}: row 1 is empty") for op in OPS),
    *(
        ErrorCase(op, "empty_word", _reduce((3, 0), 2, empty="zero"), ArgumentError, "empty must be .* got 'zero'")
        for op in OPS
    ),
    *(
        ErrorCase(
            op,
            "integers",
            lambda rng: {"x": Rows(np.zeros(3, np.int32), (3,))},
            ShapeError,
            f"{op} can't take .* int32",
        )
        for op in ("varlen_mean", "varlen_logsumexp")
    ),
    ErrorCase(
        "varlen_max",
        "nan_of_integers",
        lambda rng: {"x": Rows(np.zeros(3, np.int32), (3,)), "empty": "nan"},
        ArgumentError,
        "empty=nan can't be held by values of dtype int32",
    ),
]
