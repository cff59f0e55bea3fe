"""One value per row, spread over the row's elements."""

from __future__ import annotations

from typing import Any

from scree_core.arguments import check_array, layout_of
from scree_core.array import Array
from scree_core.dispatch import Call, run
from scree_core.errors import ShapeError
from scree_core.protocols import ArrayT
from scree_core.tail import with_tail


def repeat_rows(dense: ArrayT, like: Array[ArrayT], *, backend: str | None = None) -> Array[ArrayT]:
    """Give every element the value of its row: the transpose of ``varlen_sum``.

    Parameters
    ----------
    dense : array of shape (batch, *features)
        One value per row.
    like : Array
        Whose layout the result has; its values and features don't matter.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array with values (total, *features)
        With ``ragged_dim`` 0.

    Raises
    ------
    ShapeError
        ``dense`` has another number of rows than ``like``.

    Notes
    -----
    One gather of ``total`` elements by the layout's segment ids; no sync.

    Examples
    --------
    >>> import numpy as np, scree
    >>> arr = scree.from_lengths(np.arange(5), [2, 3])
    >>> (arr - scree.repeat_rows(np.array([0, 2]), like=arr)).values
    array([0, 1, 0, 1, 2])
    """
    call = prepare(dense, like)
    return Array.trusted(with_tail(like.backend, run(call, backend), like.layout, like.total_length), like.layout)


def prepare(dense: Any, like: Array[Any]) -> Call:
    """Check the arguments."""
    check_array(like, "like")
    shape = tuple(getattr(dense, "shape", ()))
    if len(shape) < 1 or shape[0] != like.batch_size:
        raise ShapeError(f"dense must have shape (batch, ...) with batch = {like.batch_size}, got {shape}")
    layout = layout_of(like)
    args = (dense, layout, like.total_length if layout is like.layout else layout.total)
    return Call("repeat_rows", args, {}, {"dense": dense, "like": like.values})
