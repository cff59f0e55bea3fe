"""Mean of each row."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.making import constant
from scree_core.reference.reduce_rows import pull_rows, reduce_rows


def varlen_mean(xp: Namespace, x: Any, offsets: Any, empty: Any) -> Any:
    """Average the elements of each row.

    Parameters
    ----------
    x : array of float of shape (total, *features)
        Elements.
    offsets : sequence of int of shape (batch + 1,)
        Row boundaries in host memory.
    empty : number
        Value of a row without elements.

    Returns
    -------
    array of shape (batch, *features), dtype of x

    Notes
    -----
    ``out[r] = sum(x[i] for i in row r) / length of r``. O(x.size).

    Examples
    --------
    >>> import numpy as np
    >>> varlen_mean(np, np.array([1.0, 2.0, 4.0]), [0, 2, 2, 3], 0.0)
    array([1.5, 0. , 4. ])
    """

    def mean(row: Any) -> Any:
        return xp.sum(row, axis=0, keepdims=True) / constant(xp, row.shape[0], row)

    return reduce_rows(xp, mean, x, offsets, empty)


def varlen_mean_vjp(xp: Namespace, d_out: Any, x: Any, offsets: Any, empty: Any) -> tuple[Any]:
    """Return the gradient of ``varlen_mean`` with respect to ``x``: an equal share for each element.

    Parameters
    ----------
    d_out : array of shape (batch, *features)
        Cotangent of the output.
    x, offsets, empty
        As given to ``varlen_mean``.

    Returns
    -------
    dx : array, shape of x

    Notes
    -----
    ``dx[i] = d_out[row of i] / length of row of i``.
    """

    def pull(d: Any, row: Any) -> Any:
        return xp.broadcast_to(d / constant(xp, row.shape[0], row), row.shape)

    return pull_rows(xp, pull, d_out, x, offsets)
