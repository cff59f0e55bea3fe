"""Rows filled with NaN or infinity, to see that no other row is touched by them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from scree_core.testing.case import Dense, Rows
from scree_core.testing.placing import is_float

PER_ROW = ("varlen_sum", "varlen_mean", "varlen_max", "varlen_min", "varlen_logsumexp", "to_padded")
"""Ops whose output has one entry per row, not one per element."""


def poisoned_arguments(arguments: dict[str, Any], keep: int, bad: float) -> dict[str, Any]:
    """Fill every row but one with ``bad``, in every Array."""
    return {name: _poison(value, keep, bad) for name, value in arguments.items()}


def _poison(value: Any, keep: int, bad: float) -> Any:
    if not isinstance(value, Rows) or not is_float(value.values):
        return value
    values = poisoned_outside(value.values, element_slice(value, keep), bad)
    return replace(value, values=values)


def row_slices(op: str, arguments: dict[str, Any], row: int) -> Any:
    """Return the index of one row's results in an op's output."""
    if op in PER_ROW:
        return row
    first = next(value for value in arguments.values() if isinstance(value, (Rows, Dense)))
    assert isinstance(first, Rows)
    return element_slice(first, row)


def element_slice(rows: Rows, row: int) -> slice:
    """Return where the elements of one row lie."""
    start = sum(rows.lengths[:row])
    return slice(start, start + rows.lengths[row])


def poisoned_outside(values: np.ndarray, at: Any, bad: float = np.nan) -> np.ndarray:
    """Return a copy filled with ``bad`` everywhere but at an index."""
    out = np.full_like(values, bad)
    out[at] = values[at]
    return out
