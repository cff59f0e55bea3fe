"""Softmax along the ragged axis."""

from __future__ import annotations

from typing import Any

from scree_core.arguments import check_array, check_floating, front, layout_of, restore
from scree_core.array import Array
from scree_core.dispatch import Call, run
from scree_core.protocols import ArrayT


def varlen_softmax(x: Array[ArrayT], *, backend: str | None = None) -> Array[ArrayT]:
    """Make the elements of each row positive with sum 1, for each feature by itself.

    Parameters
    ----------
    x : Array
        Floating point, any features.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array
        On the layout of x, in its dtype. Where all elements of a row are ``-inf`` the result is 0.

    Raises
    ------
    ShapeError
        x isn't floating point.

    Notes
    -----
    ``y = exp(x - m) / sum(exp(x - m))`` over each row, ``m`` its maximum; computed in float32 or wider.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.varlen_softmax(scree.from_lengths(np.zeros(5), [1, 4])).values
    array([1.  , 0.25, 0.25, 0.25, 0.25])
    """
    return restore(x, run(prepare(x), backend))


def prepare(x: Array[Any]) -> Call:
    """Check the arguments."""
    check_array(x, "x")
    check_floating(x, "varlen_softmax", "x")
    return Call("varlen_softmax", (front(x), layout_of(x)), {}, {"x": x.values})
