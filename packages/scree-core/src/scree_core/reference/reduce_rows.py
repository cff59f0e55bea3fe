"""What all reductions of rows share: one value for each row, and ``empty`` for a row of no elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.geometry import rows
from scree_core.reference.making import constant


def reduce_rows(
    xp: Namespace, reduce: Callable[[Any], Any], x: Any, offsets: Any, empty: Any, dtype: Any = None
) -> Any:
    """Reduce each row by itself.

    Parameters
    ----------
    reduce : callable
        Maps a row ``(length, *features)`` of at least one element to ``(1, *features)``.
    x : array of shape (total, *features)
        Elements.
    offsets : sequence of int of shape (batch + 1,)
        Row boundaries in host memory.
    empty : number
        Value of a row without elements.
    dtype : optional
        Dtype of the result; by default the one that the library gives a sum of ``x``.

    Returns
    -------
    array of shape (batch, *features)
    """
    zero = xp.sum(x[:0, ...], axis=0, keepdims=True)
    if dtype is not None:
        zero = xp.astype(zero, dtype)
    results = [zero[:0, ...]]  # gives a batch of none its shape and dtype
    for start, stop in rows(offsets):
        results.append(reduce(x[start:stop, ...]) if start < stop else zero + constant(xp, empty, zero))
    return xp.concat(results, axis=0)


def pull_rows(xp: Namespace, pull: Callable[[Any, Any], Any], d_out: Any, x: Any, offsets: Any) -> tuple[Any]:
    """Pull the cotangent of each row's value back to the row's elements.

    Parameters
    ----------
    pull : callable
        Maps a row's cotangent ``(1, *features)`` and elements ``(length, *features)`` to the elements' gradient.
    d_out : array of shape (batch, *features)
        Cotangent of the reduction; that of an empty row is dropped.
    x, offsets
        As given to ``reduce_rows``.

    Returns
    -------
    dx : array, shape of x
    """
    grads = [xp.zeros_like(x[:0, ...])]
    for r, (start, stop) in enumerate(rows(offsets)):
        if start < stop:
            grads.append(pull(d_out[r : r + 1, ...], x[start:stop, ...]))
    return (xp.concat(grads, axis=0),)
