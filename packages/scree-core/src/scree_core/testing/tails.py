"""Cases with elements behind the last offset, all NaN: which ones, and what must come of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from scree_core.testing.case import LENGTHS, Case, Rows
from scree_core.testing.placing import is_float
from scree_core.testing.poison import PER_ROW

TAIL = 5
"""Dead elements that each Array gets."""


def takes_a_tail(case: Case) -> bool:
    """Tell whether a case is run with a tail: those of plain lengths, and those whose rows are poisoned."""
    plain = case.name.removeprefix("causal_") in LENGTHS or case.name in ("everything", "cross_causal")
    return case.op not in ("pack", "from_padded") and not case.integer and (plain or "poison" in case.tags)


def tailed(arguments: dict[str, Any]) -> dict[str, Any]:
    """Put dead elements behind the rows of every Array."""
    return {name: _tailed(value) if isinstance(value, Rows) else value for name, value in arguments.items()}


def _tailed(rows: Rows) -> Rows:
    return replace(rows, values=behind(rows.values, np.nan if is_float(rows.values) else 1), tail=TAIL)


def behind(values: np.ndarray, filling: float) -> np.ndarray:
    """Return values with ``TAIL`` elements of one number behind them."""
    return np.concatenate([values, np.full((TAIL, *values.shape[1:]), filling, values.dtype)])


def has_tail(op: str) -> bool:
    """Tell whether an op's outputs have an entry for each element, dead ones too."""
    return op not in (*PER_ROW, "take_rows")


def filling(op: str, arguments: dict[str, Any]) -> int:
    """Return what an output must hold for dead elements: 0, or the row number past the last."""
    return len(arguments["arr"].lengths) if op == "segment_ids" else 0
