"""What packing takes: lengths, whole numbers, and one of a few words."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError

OVER = ("error", "truncate", "split", "drop")
MOST = 2**62
"""More elements than this would not be counted right in int64."""


def check_lengths(lengths: Any) -> np.ndarray:
    """Return lengths as int64 ``(rows,)``, after checking that they are whole numbers of at least 0."""
    try:
        found = np.asarray(lengths)
    except ValueError as error:  # rows of several lengths
        raise ShapeError("lengths must be a list of whole numbers; of rows give [len(row) for row in rows]") from error
    if found.ndim != 1:
        raise ShapeError(f"lengths must be 1-D, got shape {found.shape}; of rows give [len(row) for row in rows]")
    if found.size == 0:
        return np.zeros(0, np.int64)
    if found.dtype.kind not in "iu":
        raise ArgumentTypeError(
            f"lengths must be whole numbers, got dtype {found.dtype}, lengths[0]={found[0]!r}; use int64"
        )
    worst = int(found.argmin())
    if found[worst] < 0:
        raise ArgumentError(f"lengths[{worst}]={found[worst]} is negative; a row has at least 0 elements")
    if float(found.sum(dtype=np.float64)) > MOST:
        raise ArgumentError(f"lengths add up to more than {MOST}, the longest is {found.max()}; is that their unit?")
    return found.astype(np.int64)


def check_whole(name: str, value: Any, least: int) -> int:
    """Return a whole number as an int, after checking that it is one and not too small."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        whole = index(value)
    except TypeError:
        raise ArgumentTypeError(f"{name} must be a whole number, got {value!r}") from None
    if not least <= whole <= MOST:
        raise ArgumentError(f"{name}={whole} must be at least {least}" + (f" and at most {MOST}" * (whole > MOST)))
    return whole


def check_word(name: str, value: Any, words: Sequence[str]) -> None:
    """Check that an argument is one of the words it may be."""
    if not isinstance(value, str) or value not in words:
        raise ArgumentError(f"{name}={value!r} must be one of {', '.join(map(repr, words))}")


def check_bins(capacity: Any, max_rows: Any, multiple_of: Any) -> tuple[int, int | None, int]:
    """Return what a bin can hold as ints, after checking that it goes together."""
    capacity = check_whole("capacity", capacity, 1)
    max_rows = None if max_rows is None else check_whole("max_rows", max_rows, 1)
    multiple_of = check_whole("multiple_of", multiple_of, 1)
    if capacity % multiple_of:
        below = capacity - capacity % multiple_of
        mend = f"{below} or {below + multiple_of}" if below else f"{multiple_of}"
        raise ArgumentError(
            f"capacity={capacity} isn't a multiple of multiple_of={multiple_of}, so no bin could be filled; use {mend}"
        )
    return capacity, max_rows, multiple_of


def too_long(
    name: str, length: int, capacity: int, *, more: int = 0, words: Sequence[str] = OVER, limit: str = "capacity"
) -> ArgumentError:
    """Return what is raised for a row that is longer than a bin, and how many more there are."""
    mends = ", ".join(f"over={word!r}" for word in words if word != "error")
    others = f", and so are {more:,} more" * bool(more)
    return ArgumentError(f"{name}={length} is over {limit}={capacity}{others}; choose {mends} or a larger {limit}")
