"""Cases of ``from_padded``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ShapeError
from scree_core.testing.case import FORWARD_ONLY, LENGTHS, Case, Dense, ErrorCase

OP = "from_padded"


def _prefix(lengths: tuple[int, ...], width: int, left: bool = False) -> Any:
    slots = np.arange(width)
    lengths_ = np.array(lengths, np.int64)[:, None]
    mask = slots >= width - lengths_ if left else slots < lengths_
    return lambda rng: {"padded": Dense(rng.standard_normal((*mask.shape, 3))), "mask": Dense(mask)}


def _any_mask(rng: np.random.Generator) -> dict[str, Any]:
    return {"padded": Dense(rng.standard_normal((5, 7, 2))), "mask": Dense(rng.random((5, 7)) < 0.5)}


def _numbers(dtype: str) -> Any:
    mask = np.array([[1, 1, 0], [0, 0, 1]], dtype)
    return lambda rng: {"padded": Dense(rng.standard_normal((2, 3))), "mask": Dense(mask)}


def _ragged_dim_1(rng: np.random.Generator) -> dict[str, Any]:
    mask = np.array([[True, False, True], [False, False, True]])
    return {"padded": Dense(rng.standard_normal((2, 4, 3))), "mask": Dense(mask), "ragged_dim": 1}


def _wrong_shape(rng: np.random.Generator) -> dict[str, Any]:
    return {"padded": Dense(np.zeros((2, 3))), "mask": Dense(np.ones((3, 2), bool))}


def _wrong_number(rng: np.random.Generator) -> dict[str, Any]:
    return {"padded": Dense(np.zeros((2, 3))), "mask": Dense(np.array([[1, 1, 0], [0, 2, 1]], np.int32))}


CASES = [
    *(Case(OP, name, _prefix(lengths, max(lengths, default=0) + 2)) for name, lengths in LENGTHS.items()),
    Case(OP, "left", _prefix((3, 0, 2), 4, left=True)),
    Case(OP, "width_0", _prefix((0, 0), 0)),
    Case(OP, "any_mask", _any_mask),
    Case(OP, "int_mask", _numbers("int32")),
    Case(OP, "float_mask", _numbers("float32")),
    Case(OP, "ragged_dim_1", _ragged_dim_1, tags=FORWARD_ONLY),
]

ERRORS = [
    ErrorCase(OP, "shape", _wrong_shape, ShapeError, r"mask must have shape \(batch, length\) = \(2, 3\), got"),
    ErrorCase(OP, "number", _wrong_number, ShapeError, r"mask\[1, 1\] is 2"),
    ErrorCase(
        OP,
        "ndim",
        lambda rng: {"padded": Dense(np.zeros(3)), "mask": Dense(np.ones(3, bool))},
        ShapeError,
        "padded must be at least 2-D",
    ),
]
