"""Who sits where: the row and index of each element, and the keys that each query sees.

The whole geometry of scree in integers. All but ``rows`` are traceable: they read no value on the host.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.making import arange_like


def rows(offsets: Any) -> Iterator[tuple[int, int]]:
    """Iterate over the rows as Python ints ``(start, stop)``.

    Parameters
    ----------
    offsets : sequence of int of shape (batch + 1,)
        Row boundaries in host memory.

    Examples
    --------
    >>> list(rows([0, 2, 2, 5]))
    [(0, 2), (2, 2), (2, 5)]
    """
    return itertools.pairwise([int(offset) for offset in offsets])


def segment_ids(xp: Namespace, offsets: Any, total: int) -> Any:
    """Return the row number of each element.

    Parameters
    ----------
    offsets : array of shape (batch + 1,), int32 or int64
        Row boundaries.
    total : int
        Number of elements; those past the last offset get the number ``batch``.

    Returns
    -------
    array of shape (total,), dtype of offsets

    Notes
    -----
    ``segment_ids[i] = #{r : offsets[r] <= i} - 1``, so empty rows are skipped. O(total log batch), no sync.

    Examples
    --------
    >>> import numpy as np
    >>> segment_ids(np, np.array([0, 2, 2, 5]), 5)
    array([0, 0, 2, 2, 2])
    """
    index = arange_like(xp, total, offsets.dtype, offsets)
    return xp.astype(xp.searchsorted(offsets, index, side="right"), offsets.dtype) - 1


def positions(xp: Namespace, offsets: Any, segment_ids: Any) -> Any:
    """Return the index of each element within its row: ``i - offsets[segment_ids[i]]``.

    Parameters
    ----------
    offsets : array of shape (batch + 1,), int32 or int64
        Row boundaries.
    segment_ids : array of int of shape (total,)
        Row number of each element.

    Returns
    -------
    array of shape (total,), dtype of offsets

    Notes
    -----
    O(total), no sync.

    Examples
    --------
    >>> import numpy as np
    >>> positions(np, np.array([0, 2, 2, 5]), np.array([0, 0, 2, 2, 2]))
    array([0, 1, 0, 1, 2])
    """
    index = arange_like(xp, segment_ids.shape[0], offsets.dtype, offsets)
    return index - xp.take(offsets, segment_ids, axis=0)


def key_ranges(
    xp: Namespace, q_offsets: Any, k_offsets: Any, q_segment_ids: Any, *, causal: bool, window: tuple[int, int]
) -> tuple[Any, Any]:
    """Return the half-open range ``[k_lo, k_hi)`` of packed keys that each query sees.

    Parameters
    ----------
    q_offsets, k_offsets : array of shape (batch + 1,), int32 or int64
        Row boundaries of the queries and of the keys, of one dtype.
    q_segment_ids : array of int of shape (total_q,)
        Row number of each query; the number ``batch`` marks a query past the last offset, which sees nothing.
    causal : bool
        Whether a query sees no key behind its own position.
    window : tuple of int
        How many keys to the left and to the right of its own position a query sees, besides that one; -1 for
        all of them. Must fit the offsets' dtype.

    Returns
    -------
    k_lo, k_hi : array of shape (total_q,), dtype of offsets
        ``k_lo <= k_hi``, both within the query's row or at its end; equal where the query sees nothing.

    Notes
    -----
    Rows of queries and keys are aligned at their ends (bottom right): of a row with ``lq`` queries and ``lk``
    keys, query ``i`` sits at key position ``i + lk - lq``. Causal is then a window of nothing to the right.
    O(total_q), no sync; sums are ordered so that int32 holds every value that is used.

    Examples
    --------
    >>> import numpy as np
    >>> offsets, ids = np.array([0, 2, 5]), np.array([0, 0, 1, 1, 1])
    >>> key_ranges(np, offsets, offsets, ids, causal=True, window=(1, -1))
    (array([0, 0, 2, 2, 3]), array([1, 2, 3, 4, 5]))
    """
    left, right = window
    if causal:
        right = 0
    # A query past the last offset belongs to row `batch`: an empty one at the end.
    q_stop = xp.take(xp.concat([q_offsets[1:], q_offsets[-1:]], axis=0), q_segment_ids, axis=0)
    k_stop = xp.take(xp.concat([k_offsets[1:], k_offsets[-1:]], axis=0), q_segment_ids, axis=0)
    k_start = xp.take(k_offsets, q_segment_ids, axis=0)
    index = arange_like(xp, q_segment_ids.shape[0], q_offsets.dtype, q_offsets)
    behind = xp.where(index < q_stop, q_stop - 1 - index, xp.zeros_like(index))  # queries of the row after this one
    at = k_stop - 1 - behind  # the packed key at the query's position; before k_start where the row has more queries

    k_lo, k_hi = k_start, k_stop
    if left >= 0:
        k_lo = xp.where(at - k_start > left, at - left, k_start)
    if right >= 0:
        k_hi = xp.where(behind > right, at + 1 + right, k_stop)
    return k_lo, xp.maximum(k_lo, k_hi)
