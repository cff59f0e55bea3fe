"""Cases of ``arr.segment_ids``: the row number of each element."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.testing.case import LENGTHS, Case, ErrorCase, Rows

OP = "segment_ids"


def _rows(lengths: tuple[int, ...], offsets_dtype: str = "int32") -> Any:
    return lambda rng: {"arr": Rows(np.zeros(sum(lengths), np.int32), lengths, offsets_dtype=offsets_dtype)}


CASES = [
    *(Case(OP, name, _rows(lengths), integer=True) for name, lengths in LENGTHS.items()),
    Case(OP, "int64_offsets", _rows((2, 0, 3), "int64"), integer=True),
]

ERRORS: list[ErrorCase] = []
