"""Cases of ``varlen_rmsnorm``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.testing.case import FORWARD_ONLY, LENGTHS, Case, Dense, ErrorCase, Rows, draw_rows

OP = "varlen_rmsnorm"


def _norm(
    lengths: tuple[int, ...],
    *features: int,
    affine: tuple[str, ...] = ("weight",),
    size: float = 1.0,
    shift: float = 0.0,
    rows: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    def draw(rng: np.random.Generator) -> dict[str, Any]:
        x = draw_rows(rng, lengths, *features)
        arguments: dict[str, Any] = {"x": Rows(x.values * size + shift, lengths, **(rows or {}))}
        arguments |= {name: Dense(1 + 0.5 * rng.standard_normal(features[-1])) for name in affine}
        return {**arguments, **options}

    return draw


CASES = [
    *(Case(OP, name, _norm(lengths, 16)) for name, lengths in LENGTHS.items()),
    Case(OP, "plain", _norm((3, 5), 16, affine=())),
    Case(OP, "weight_only", _norm((3, 5), 16, affine=("weight",))),
    Case(OP, "odd_features", _norm((3, 5), 33)),
    Case(OP, "many_axes", _norm((3, 5), 4, 16)),
    Case(OP, "small_values", _norm((3, 5), 16, size=2e-3)),  # where eps decides
    Case(OP, "large_eps", _norm((3, 5), 16, eps=0.5)),
    Case(OP, "shifted", _norm((3, 5), 16, shift=8.0)),
    Case(OP, "zeros", _norm((3, 5), 16, size=0.0)),
    Case(OP, "one_feature", _norm((3, 5), 1)),
    Case(OP, "int64_offsets", _norm((3, 5), 16, rows={"offsets_dtype": "int64"})),
    Case(OP, "strided", _norm((3, 5), 16, rows={"strided": True})),
    Case(OP, "ragged_dim_1", _norm((3, 5), 4, 16, rows={"ragged_dim": 1}), tags=FORWARD_ONLY),
    Case(OP, "poisoned", _norm((3, 5, 2), 16), tags=frozenset({"poison"})),
]


def _wrong(match: str, error: type[Exception] = ShapeError, *, name: str, **changes: Any) -> ErrorCase:
    return ErrorCase(OP, name, lambda rng: {**_norm((3, 2), 8)(rng), **changes}, error, match)


ERRORS = [
    _wrong("x must be a scree.Array", ArgumentTypeError, name="dense", x=Dense(np.zeros((5, 8)))),
    _wrong("works over the last axis, but that is the ragged one", name="ragged", x=Rows(np.zeros(5), (3, 2))),
    _wrong("needs floating-point x, got int32", name="integers", x=Rows(np.zeros((5, 8), np.int32), (3, 2))),
    _wrong(r"weight must have shape \(features,\) = \(8,\)", name="weight", weight=Dense(np.zeros(7))),
    _wrong("eps must be a finite number of 0 or more, got -1", ArgumentError, name="eps", eps=-1.0),
]
