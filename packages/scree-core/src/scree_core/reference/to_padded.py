"""Lay the rows out on a rectangle, and say which of its cells they fill."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.geometry import rows
from scree_core.reference.making import arange_like, constant


def to_padded(xp: Namespace, x: Any, offsets: Any, width: int, side: str, fill_value: Any) -> tuple[Any, Any]:
    """Lay out the rows on a rectangle.

    Parameters
    ----------
    x : array of shape (total, *features)
        The rows' elements, of any dtype.
    offsets : array of shape (batch + 1,), int32 or int64
        Row boundaries.
    width : int
        Cells in each row of the result; no row of ``x`` is longer.
    side : {"right", "left"}
        Where the padding goes.
    fill_value : number
        What the padding holds, cast to the dtype of ``x``.

    Returns
    -------
    padded : array of shape (batch, width, *features), dtype of x
    mask : array of bool of shape (batch, width)
        True where a cell holds an element.

    Notes
    -----
    ``padded[r, c] = x[offsets[r] + c]`` for right padding, ``x[offsets[r + 1] - width + c]`` for left padding.
    One gather, exact. O(batch * width), no sync. An index past int32 is possible in the padding only, and is
    dropped there.

    Examples
    --------
    >>> import numpy as np
    >>> to_padded(np, np.array([1, 2, 3]), np.array([0, 1, 3]), 2, "left", 0)
    (array([[0, 1],
           [2, 3]]), array([[False,  True],
           [ True,  True]]))
    """
    batch, features = offsets.shape[0] - 1, x.shape[1:]
    start = xp.reshape(offsets[:-1], (batch, 1))
    length = xp.reshape(offsets[1:], (batch, 1)) - start
    position = xp.reshape(arange_like(xp, width, offsets.dtype, offsets), (1, width))
    if side == "left":
        position = position - (width - length)
    mask = (position >= 0) & (position < length)
    source = xp.where(mask, start + position, xp.zeros_like(start))

    if x.shape[0] == 0:  # nothing to take from: pad with one element, which the mask then hides
        zero = xp.astype(xp.zeros_like(offsets[:1]), x.dtype)
        x = xp.broadcast_to(xp.reshape(zero, (1,) * x.ndim), (1, *features))
    taken = xp.reshape(xp.take(x, xp.reshape(source, (batch * width,)), axis=0), (batch, width, *features))
    filled = xp.reshape(mask, (batch, width) + (1,) * len(features))
    return xp.where(filled, taken, constant(xp, fill_value, x)), mask


def to_padded_vjp(
    xp: Namespace, d_padded: Any, x: Any, offsets: Any, width: int, side: str, fill_value: Any
) -> tuple[Any]:
    """Return the gradient of ``to_padded`` with respect to ``x``: the cells that hold an element.

    Parameters
    ----------
    d_padded : array of shape (batch, width, *features)
        Cotangent of the padded array; the mask has none.
    x, offsets, width, side, fill_value
        As given to ``to_padded``, with offsets in host memory.

    Returns
    -------
    dx : array of shape (total, *features)

    Notes
    -----
    ``dx[i] = d_padded[row of i, cell of i]``; the padding's cotangent is dropped. O(total).
    """
    cells = [xp.zeros_like(x[:0, ...])]
    for r, (start, stop) in enumerate(rows(offsets)):
        first = width - (stop - start) if side == "left" else 0
        cells.append(d_padded[r, first : first + stop - start, ...])
    return (xp.concat(cells, axis=0),)
