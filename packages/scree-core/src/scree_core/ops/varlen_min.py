"""Take the smallest element of each row: the min over the ragged axis."""

from __future__ import annotations

import math
from typing import Any

from scree_core.arguments import INTEGER_DTYPES
from scree_core.array import Array
from scree_core.backend import FLOAT_DTYPES
from scree_core.dispatch import Call, run
from scree_core.ops.reduction import prepare_reduction
from scree_core.protocols import ArrayT


def varlen_min(x: Array[ArrayT], *, empty: Any = "identity", backend: str | None = None) -> ArrayT:
    """Take the smallest element of each row.

    Parameters
    ----------
    x : Array
        Floating point or integer, any features.
    empty : "identity", "nan", "error" or a number, default "identity"
        What an empty row gives: the identity (inf, or the largest integer), NaN, an error, or that number.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    array of shape (batch, *features)
        The min of each row, in the dtype of x.

    Raises
    ------
    ShapeError
        Another dtype, or an empty row with ``empty="error"``.
    ArgumentError
        ``empty`` is none of these, or the dtype can't hold it.

    Notes
    -----
    ``y = min(x)``. The gradient of a tie is shared equally. NaN wins.
    ``empty="error"`` reads the offsets unless ``min_length`` is known to be positive; nothing else syncs
    for its own sake.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.varlen_min(scree.from_lengths(np.array([2.0, 3.0, 4.0]), [0, 1, 2])).tolist()
    [inf, 2.0, 3.0]
    """
    return run(prepare(x, empty=empty), backend)


def prepare(x: Array[Any], *, empty: Any = "identity") -> Call:
    """Check the arguments."""
    return prepare_reduction("varlen_min", x, empty, math.inf, FLOAT_DTYPES + INTEGER_DTYPES)
