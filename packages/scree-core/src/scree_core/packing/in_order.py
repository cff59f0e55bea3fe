"""Rows in the order given: whole ones up to what a bin holds, or cut where it ends."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np


def next_fit(sizes: np.ndarray, capacity: int, max_rows: int | None) -> np.ndarray:
    """Return the bin of each piece, int64 ``(pieces,)``: a new one where a piece doesn't fit in the last."""
    ends = [0, *np.cumsum(sizes).tolist()]
    pieces, most = sizes.size, sizes.size if max_rows is None else max_rows
    starts, i = [], 0
    while i < pieces:
        starts.append(i)
        i = bisect_right(ends, ends[i] + capacity, i + 1, min(pieces, i + most) + 1) - 1
    return np.repeat(np.arange(len(starts)), np.diff([*starts, pieces]))


def concat(
    sizes: np.ndarray, capacity: int, max_rows: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut rows that lie one after another wherever a bin is full.

    Returns
    -------
    tuple of arrays of shape (pieces,), int64
        Of each piece its row, where in the row it starts, what it takes up, and its bin. A row that is empty has one
        piece.
    """
    row_ends = np.cumsum(sizes)
    row_starts = row_ends - sizes
    ends, begins = row_ends.tolist(), row_starts.tolist()
    rows, most = sizes.size, sizes.size if max_rows is None else max_rows
    first, last, left, right = [], [], [], []  # of each bin: its rows, and its place among all elements
    row = position = 0
    while row < rows:
        beyond = min(row + most, rows)  # the first row that there is no place for
        first.append(row)
        left.append(position)
        position = min(position + capacity, ends[beyond - 1])
        right.append(position)
        row = bisect_right(ends, position, row, beyond)
        last.append(row if row < beyond and begins[row] < position else row - 1)
    counts = np.array(last, np.int64) - np.array(first, np.int64) + 1
    bin_of = np.repeat(np.arange(counts.size), counts)
    within = np.arange(bin_of.size) - np.repeat(np.cumsum(counts) - counts, counts)
    row_of = np.array(first, np.int64)[bin_of] + within
    start = np.maximum(row_starts[row_of], np.array(left, np.int64)[bin_of])
    end = np.minimum(row_ends[row_of], np.array(right, np.int64)[bin_of])
    return row_of, start - row_starts[row_of], end - start, bin_of
