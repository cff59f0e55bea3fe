"""Softmax over each row."""

from __future__ import annotations

import math
from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.geometry import rows
from scree_core.reference.making import constant


def varlen_softmax(xp: Namespace, x: Any, offsets: Any) -> Any:
    """Turn each row into weights that sum to 1, for each feature by itself.

    Parameters
    ----------
    x : array of shape (total, *features)
        Logits.
    offsets : sequence of int of shape (batch + 1,)
        Row boundaries in host memory.

    Returns
    -------
    array, shape and dtype of x
        Zeros where all of a row's logits are -inf; NaN where one is +inf, which has no limit.

    Notes
    -----
    ``y = exp(x - max(x)) / sum(exp(x - max(x)))`` over the row. Bridle 1990. O(x.size).

    Examples
    --------
    >>> import numpy as np
    >>> varlen_softmax(np, np.array([5.0, 5.0, -1.0]), [0, 2, 3])
    array([0.5, 0.5, 1. ])
    """
    weights = [_softmax(xp, x[start:stop, ...]) for start, stop in rows(offsets) if start < stop]
    return xp.concat([xp.zeros_like(x[:0, ...]), *weights], axis=0)


def varlen_softmax_vjp(xp: Namespace, d_out: Any, x: Any, offsets: Any) -> tuple[Any]:
    """Return the gradient of ``varlen_softmax`` with respect to ``x``.

    Parameters
    ----------
    d_out : array of shape (total, *features)
        Cotangent of the output.
    x, offsets
        As given to ``varlen_softmax``.

    Returns
    -------
    dx : array, shape of x

    Notes
    -----
    ``dx = y * (d_out - sum(y * d_out))`` over the row, with ``y`` the output.
    """
    y = varlen_softmax(xp, x, offsets)
    grads = [xp.zeros_like(x[:0, ...])]
    for start, stop in rows(offsets):
        y_row, d_row = y[start:stop, ...], d_out[start:stop, ...]
        grads.append(y_row * (d_row - xp.sum(y_row * d_row, axis=0, keepdims=True)))
    return (xp.concat(grads, axis=0),)


def _softmax(xp: Namespace, row: Any) -> Any:
    zero, inf = constant(xp, 0.0, row), constant(xp, math.inf, row)
    top = xp.max(row, axis=0, keepdims=True)
    infinite = (top == inf) | (top == -inf)
    # inf - inf warns in NumPy and means nothing, so a column without a finite top is left out and answered below.
    exps = xp.exp(xp.where(infinite, zero, row) - xp.where(infinite, zero, top))
    weights = exps / xp.sum(exps, axis=0, keepdims=True)
    return xp.where(infinite, xp.where(top == inf, constant(xp, math.nan, row), zero), weights)
