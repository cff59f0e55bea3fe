"""Sum of each row."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.reduce_rows import pull_rows, reduce_rows


def varlen_sum(xp: Namespace, x: Any, offsets: Any, empty: Any) -> Any:
    """Sum the elements of each row.

    Parameters
    ----------
    x : array of shape (total, *features)
        Elements; bools count as integers.
    offsets : sequence of int of shape (batch + 1,)
        Row boundaries in host memory.
    empty : number
        Value of a row without elements.

    Returns
    -------
    array of shape (batch, *features)
        Dtype of x, or for integers the one that the library sums them in (int64 in NumPy).

    Notes
    -----
    ``out[r] = sum(x[i] for i in row r)``. O(x.size).

    Examples
    --------
    >>> import numpy as np
    >>> varlen_sum(np, np.array([1.0, 2.0, 4.0]), [0, 2, 2, 3], 0.0)
    array([3., 0., 4.])
    """
    return reduce_rows(xp, lambda row: xp.sum(row, axis=0, keepdims=True), bools_as_ints(xp, x), offsets, empty)


def varlen_sum_vjp(xp: Namespace, d_out: Any, x: Any, offsets: Any, empty: Any) -> tuple[Any]:
    """Return the gradient of ``varlen_sum`` with respect to ``x``: its row's cotangent for each element.

    Parameters
    ----------
    d_out : array of shape (batch, *features)
        Cotangent of the output.
    x, offsets, empty
        As given to ``varlen_sum``.

    Returns
    -------
    dx : array, shape of x

    Notes
    -----
    ``dx[i] = d_out[row of i]``.
    """
    return pull_rows(xp, lambda d, row: xp.broadcast_to(d, row.shape), d_out, x, offsets)


def bools_as_ints(xp: Namespace, x: Any) -> Any:
    """Cast bools to int32, since the standard sums numbers only; the sum widens them as it does any integer."""
    return xp.astype(x, xp.int32) if x.dtype == xp.bool else x
