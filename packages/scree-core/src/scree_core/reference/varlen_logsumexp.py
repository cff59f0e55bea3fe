"""Log of the sum of the exponentials of each row."""

from __future__ import annotations

import math
from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.making import constant
from scree_core.reference.reduce_rows import pull_rows, reduce_rows
from scree_core.reference.varlen_softmax import varlen_softmax


def varlen_logsumexp(xp: Namespace, x: Any, offsets: Any, empty: Any) -> Any:
    """Return the log of the sum of the exponentials of each row, for each feature by itself.

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
        -inf where all of a row's elements are; +inf where one is.

    Notes
    -----
    ``out[r] = top + log(sum(exp(x[i] - top) for i in row r))`` with ``top`` the row's maximum, so that nothing
    overflows (Blanchard, Higham & Higham 2021, eq. 1.4). O(x.size).

    Examples
    --------
    >>> import numpy as np
    >>> varlen_logsumexp(np, np.array([1.0, -np.inf, 4.0]), [0, 2, 2, 3], 0.0)
    array([1., 0., 4.])
    """
    return reduce_rows(xp, lambda row: _logsumexp(xp, row), x, offsets, empty)


def varlen_logsumexp_vjp(xp: Namespace, d_out: Any, x: Any, offsets: Any, empty: Any) -> tuple[Any]:
    """Return the gradient of ``varlen_logsumexp`` with respect to ``x``: the softmax, scaled.

    Parameters
    ----------
    d_out : array of shape (batch, *features)
        Cotangent of the output.
    x, offsets, empty
        As given to ``varlen_logsumexp``.

    Returns
    -------
    dx : array, shape of x
        Zeros where all of a row's elements are -inf.

    Notes
    -----
    ``dx[i] = d_out[row of i] * exp(x[i] - out[row of i])``.
    """

    def pull(d: Any, row: Any) -> Any:
        return d * varlen_softmax(xp, row, [0, row.shape[0]])

    return pull_rows(xp, pull, d_out, x, offsets)


def _logsumexp(xp: Namespace, row: Any) -> Any:
    zero, inf = constant(xp, 0.0, row), constant(xp, math.inf, row)
    top = xp.max(row, axis=0, keepdims=True)
    infinite = (top == inf) | (top == -inf)
    # An infinite top is the answer; inf - inf, and an overflow beside it, are kept out of the sum.
    exps = xp.exp(xp.where(infinite, zero, row) - xp.where(infinite, zero, top))
    return top + xp.log(xp.sum(exps, axis=0, keepdims=True))
