"""Running sum within each row."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.geometry import rows
from scree_core.reference.making import arange_like
from scree_core.reference.varlen_sum import bools_as_ints


def varlen_cumsum(xp: Namespace, x: Any, offsets: Any) -> Any:
    """Sum each row up to and including each element.

    Parameters
    ----------
    x : array of shape (total, *features)
        Elements; bools count as integers.
    offsets : sequence of int of shape (batch + 1,)
        Row boundaries in host memory.

    Returns
    -------
    array of shape (total, *features)
        Dtype of x, or for integers the one that the library sums them in (int64 in NumPy).

    Notes
    -----
    ``out[i] = sum(x[j] for j in row of i with j <= i)``. O(x.size).

    Examples
    --------
    >>> import numpy as np
    >>> varlen_cumsum(np, np.array([1.0, 2.0, 4.0]), [0, 2, 3])
    array([1., 3., 4.])
    """
    x = bools_as_ints(xp, x)
    sums = [xp.cumulative_sum(x[start:stop, ...], axis=0) for start, stop in rows(offsets) if start < stop]
    nothing = xp.sum(x[:0, ...], axis=0, keepdims=True)[:0, ...]  # gives a total of none its dtype
    return xp.concat([nothing, *sums], axis=0)


def varlen_cumsum_vjp(xp: Namespace, d_out: Any, x: Any, offsets: Any) -> tuple[Any]:
    """Return the gradient of ``varlen_cumsum`` with respect to ``x``: the running sum from the other end.

    Parameters
    ----------
    d_out : array of shape (total, *features)
        Cotangent of the output.
    x, offsets
        As given to ``varlen_cumsum``.

    Returns
    -------
    dx : array, shape of x

    Notes
    -----
    ``dx[i] = sum(d_out[j] for j in row of i with j >= i)``.
    """
    grads = [xp.zeros_like(x[:0, ...])]
    for start, stop in rows(offsets):
        if start < stop:
            backwards = (stop - start - 1) - arange_like(xp, stop - start, xp.int32, x)
            flipped = xp.take(d_out[start:stop, ...], backwards, axis=0)
            grads.append(xp.take(xp.cumulative_sum(flipped, axis=0), backwards, axis=0))
    return (xp.concat(grads, axis=0),)
