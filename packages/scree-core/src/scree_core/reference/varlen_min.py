"""Minimum of each row."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.reduce_rows import pull_rows, reduce_rows
from scree_core.reference.varlen_max import share


def varlen_min(xp: Namespace, x: Any, offsets: Any, empty: Any) -> Any:
    """Take the smallest element of each row, for each feature by itself.

    Parameters
    ----------
    x : array of shape (total, *features)
        Elements.
    offsets : sequence of int of shape (batch + 1,)
        Row boundaries in host memory.
    empty : number
        Value of a row without elements.

    Returns
    -------
    array of shape (batch, *features), dtype of x
        NaN where a row has one.

    Notes
    -----
    ``out[r] = min(x[i] for i in row r)``. O(x.size).

    Examples
    --------
    >>> import numpy as np
    >>> varlen_min(np, np.array([1.0, 2.0, 4.0]), [0, 2, 2, 3], 0.0)
    array([1., 0., 4.])
    """
    return reduce_rows(xp, lambda row: xp.min(row, axis=0, keepdims=True), x, offsets, empty, dtype=x.dtype)


def varlen_min_vjp(xp: Namespace, d_out: Any, x: Any, offsets: Any, empty: Any) -> tuple[Any]:
    """Return the gradient of ``varlen_min`` with respect to ``x``: ties share it equally.

    Parameters
    ----------
    d_out : array of shape (batch, *features)
        Cotangent of the output.
    x, offsets, empty
        As given to ``varlen_min``.

    Returns
    -------
    dx : array, shape of x

    Notes
    -----
    ``dx[i] = d_out[row of i] / ties`` where ``x[i]`` is the minimum, else 0. Nothing equals a NaN, so the gradient
    is 0 where the minimum is one.
    """
    return pull_rows(xp, lambda d, row: share(xp, d, row == xp.min(row, axis=0, keepdims=True)), d_out, x, offsets)
