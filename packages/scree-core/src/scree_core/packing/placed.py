"""Where pieces were put: in runs of bins that each got equally many of one size."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Placed:
    """Bins in the order in which they got pieces, largest pieces first.

    Pieces of one size are alike, so what is noted is how many of them a run of bins got, each the same number.
    """

    def __init__(self) -> None:
        self._bins: list[int] = []
        self._runs: list[int] = []
        self._each: list[int] = []

    def note(self, bins: Iterable[int], run: int, each: int) -> None:
        """Say that the next pieces went to ``run`` bins, ``each`` of them to one after another."""
        self._bins.extend(bins)
        self._runs.append(run)
        self._each.append(each)

    def bin_of_piece(self) -> np.ndarray:
        """Return the bin of each piece, int64 ``(pieces,)``, in the order in which they were placed."""
        each = np.repeat(np.array(self._each, np.int64), np.array(self._runs, np.int64))
        return np.repeat(np.array(self._bins, np.int64), each)


def with_empty(bin_of_piece: np.ndarray, empty: int, max_rows: int | None) -> np.ndarray:
    """Return the bins of all pieces, the empty ones last: where ``max_rows`` leaves a place, else in new bins."""
    if not empty:
        return bin_of_piece
    if max_rows is None:
        last = bin_of_piece.max(initial=0)
        return np.concatenate([bin_of_piece, np.full(empty, last)])
    free = max_rows - np.bincount(bin_of_piece)
    places = np.repeat(np.arange(free.size), free)[:empty]
    new = free.size + np.arange(empty - places.size) // max_rows
    return np.concatenate([bin_of_piece, places, new])
