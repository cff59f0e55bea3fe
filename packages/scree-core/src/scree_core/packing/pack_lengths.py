"""Rows of given lengths into bins of one size."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.packing.best_fit import best_fit_decreasing
from scree_core.packing.checks import OVER, check_bins, check_lengths, check_whole, check_word, too_long
from scree_core.packing.first_fit import first_fit_decreasing
from scree_core.packing.in_order import concat, next_fit
from scree_core.packing.placed import with_empty
from scree_core.packing.result import Packing

ALGORITHMS = ("bfd", "ffd", "next", "concat")


def pack_lengths(
    lengths: Any,
    capacity: int,
    algorithm: str = "bfd",
    *,
    over: str,
    max_rows: int | None = None,
    multiple_of: int = 1,
    seed: int | None = None,
) -> Packing:
    """Choose which rows go together, so that bins of one size are as full as can be.

    Parameters
    ----------
    lengths : array_like of shape (rows,), integers
        How many elements each row has; 0 is fine.
    capacity : int
        How many elements a bin can hold.
    algorithm : {"bfd", "ffd", "next", "concat"}, default "bfd"
        - ``"bfd"``, best fit decreasing: the longest row first, each where it leaves the least room.
        - ``"ffd"``, first fit decreasing: the longest row first, each in the first bin that has room.
        - ``"next"``: rows in the order given, with a new bin where one doesn't fit in the last.
        - ``"concat"``: rows joined in the order given and cut wherever a bin is full, so that nothing but the last bin
          has room left, and pieces of one row may lie in two bins.
    over : {"error", "truncate", "split", "drop"}
        What to do with rows longer than ``capacity``: raise; keep their first ``capacity`` elements; cut them into
        pieces of ``capacity`` and a rest; or leave them out, named in ``dropped``. There is no default, since three of
        them change what is trained on.
    max_rows : int, optional
        At most so many pieces in a bin. None is no limit.
    multiple_of : int, default 1
        Each piece takes up its length rounded up to a multiple of this, which ``capacity`` has to be too.
    seed : int, optional
        None, the default, gives the same bins in the same order each time. An integer puts the bins in a random order
        and, with ``"bfd"`` and ``"ffd"``, lets rows that take up equally much change places; there are never more bins
        for it.

    Returns
    -------
    Packing

    Raises
    ------
    ArgumentError
        A length is negative, or above ``capacity`` with ``over="error"``; ``capacity`` isn't a multiple of
        ``multiple_of``; or an argument isn't one of those it may be.
    ArgumentTypeError
        ``lengths`` or a number isn't whole.
    ShapeError
        ``lengths`` isn't 1-D.

    Notes
    -----
    Runs on the host. Pieces that take up equally much are placed together, so that the time depends on how many
    different lengths there are: a million rows take half a second at capacities of some thousands, and some seconds
    where nearly all lengths differ. It can be interrupted. About 150 bytes of memory for a piece while it runs.

    Empty rows are in bins as others are, and count for ``max_rows``.

    Best fit and first fit decreasing need at most 11/9 of the fewest possible bins, and 6/9 of a bin (Dósa 2007),
    without ``max_rows``; on lengths as texts have them, best fit comes within a fraction of a percent.

    Examples
    --------
    >>> import scree
    >>> packing = scree.packing.pack_lengths([5, 3, 2, 6, 9], 8, over="split")
    >>> [rows.tolist() for rows in packing]
    [[4], [3, 2], [0, 1], [4]]
    >>> packing.starts, packing.lengths
    (array([0, 0, 0, 0, 0, 8]), array([8, 6, 2, 5, 3, 1]))
    """
    capacity, max_rows, multiple_of = check_bins(capacity, max_rows, multiple_of)
    check_word("algorithm", algorithm, ALGORITHMS)
    check_word("over", over, OVER)
    rng = None if seed is None else np.random.default_rng(check_whole("seed", seed, 0))
    rows = check_lengths(lengths)
    indices, starts, kept, dropped = _pieces(rows, capacity, over, algorithm)
    sizes = -(-kept // multiple_of) * multiple_of
    if max_rows is not None and max_rows >= sizes.size and algorithm != "concat":
        max_rows = None  # no limit, and faster
    if algorithm == "concat":
        row_of, cut_at, taken_up, bin_of = concat(sizes, capacity, max_rows)
        starts, kept = cut_at, np.minimum(taken_up, kept[row_of] - cut_at)
        indices = indices[row_of]
    elif algorithm == "next":
        bin_of = next_fit(sizes, capacity, max_rows)
    else:
        order, bin_of = _decreasing(sizes, capacity, algorithm, max_rows, rng)
        indices, starts, kept = indices[order], starts[order], kept[order]
    counts = np.bincount(bin_of)
    if rng is not None:
        place = rng.permutation(counts.size)
        counts[place] = counts.copy()
        bin_of = place[bin_of]
    order = np.argsort(bin_of, kind="stable")
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    lost = int(rows.sum()) - int(kept.sum())
    return Packing(offsets, indices[order], starts[order], kept[order], capacity, dropped, lost)


def _pieces(
    rows: np.ndarray, capacity: int, over: str, algorithm: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return row, start and length of each piece, and the rows that there is none of."""
    indices, starts, dropped = np.arange(rows.size), np.zeros(rows.size, np.int64), np.zeros(0, np.int64)
    longer = rows > capacity
    if not longer.any() or (over == "split" and algorithm == "concat"):
        return indices, starts, rows, dropped
    if over == "error":
        first = int(longer.argmax())
        more = int(longer.sum()) - 1
        raise too_long(f"lengths[{first}]", rows[first], capacity, more=more)
    if over == "drop":
        return indices[~longer], starts[~longer], rows[~longer], np.flatnonzero(longer)
    if over == "truncate":
        return indices, starts, np.minimum(rows, capacity), dropped
    cuts = np.maximum(-(-rows // capacity), 1)
    indices = np.repeat(indices, cuts)
    starts = (np.arange(indices.size) - np.repeat(np.cumsum(cuts) - cuts, cuts)) * capacity
    return indices, starts, np.minimum(rows[indices] - starts, capacity), dropped


def _decreasing(
    sizes: np.ndarray, capacity: int, algorithm: str, max_rows: int | None, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pieces from the largest to the smallest, and the bin of each."""
    order = np.arange(sizes.size) if rng is None else rng.permutation(sizes.size)
    order = order[np.argsort(-sizes[order], kind="stable")]
    full = int(np.count_nonzero(sizes))
    ordered = sizes[order[:full]]
    firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
    counts = np.diff(firsts, append=full)
    place = best_fit_decreasing if algorithm == "bfd" else first_fit_decreasing
    placed = place(ordered[firsts].tolist(), counts.tolist(), capacity, max_rows)
    return order, with_empty(placed.bin_of_piece(), sizes.size - full, max_rows)
