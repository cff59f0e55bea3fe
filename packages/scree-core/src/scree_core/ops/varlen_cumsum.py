"""Running sums that restart in each row."""

from __future__ import annotations

from typing import Any

from scree_core.arguments import INTEGER_DTYPES, check_array, front, layout_of, restore
from scree_core.array import Array
from scree_core.backend import FLOAT_DTYPES
from scree_core.dispatch import Call, run
from scree_core.errors import ShapeError
from scree_core.protocols import ArrayT


def varlen_cumsum(x: Array[ArrayT], *, backend: str | None = None) -> Array[ArrayT]:
    """Add up each row's elements from its first to each one, inclusive.

    Parameters
    ----------
    x : Array
        Floating point, integer or bool, any features.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array
        On the layout of x, in its dtype; int64 for integers (int32 in JAX without x64).

    Raises
    ------
    ShapeError
        Another dtype.

    Notes
    -----
    ``y[i] = x[start] + ... + x[i]``, where the row of ``i`` starts at ``start``. Halves are added up in float32.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.varlen_cumsum(scree.from_lengths(np.ones(5), [2, 3])).values
    array([1., 2., 1., 2., 3.])
    """
    return restore(x, run(prepare(x), backend))


def prepare(x: Array[Any]) -> Call:
    """Check the arguments."""
    check_array(x, "x")
    dtype = x.backend.dtype_name(x.values)
    if dtype not in (*FLOAT_DTYPES, *INTEGER_DTYPES, "bool"):
        raise ShapeError(f"varlen_cumsum can't take values of dtype {dtype}")
    return Call("varlen_cumsum", (front(x), layout_of(x)), {}, {"x": x.values})
