"""Cases of ``arr[index]``: rows gathered to a new Array."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.testing.case import FORWARD_ONLY, Case, ErrorCase, draw_rows

OP = "take_rows"


def _index(index: Any, lengths: tuple[int, ...] = (3, 0, 5, 1), **options: Any) -> Any:
    return lambda rng: {"arr": draw_rows(rng, lengths, 3, **options), "index": index}


CASES = [
    Case(OP, "repeated", _index([2, 0, 2])),
    Case(OP, "negative", _index([-1, 1])),
    Case(OP, "nothing", _index([])),
    Case(OP, "mask", _index(np.array([True, False, True, True]))),
    Case(OP, "mask_of_none", _index(np.array([False] * 4))),
    Case(OP, "empty_rows", _index([1, 1], (3, 0))),
    Case(OP, "ragged_dim_1", _index([2, 0], ragged_dim=1), tags=FORWARD_ONLY),
    Case(OP, "int64_offsets", _index([3, 2], offsets_dtype="int64")),
    Case(OP, "strided", _index([3, 2], strided=True)),
]

ERRORS: list[ErrorCase] = []
