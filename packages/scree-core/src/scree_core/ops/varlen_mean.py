"""Average each row: the mean over the ragged axis."""

from __future__ import annotations

from typing import Any

from scree_core.array import Array
from scree_core.backend import FLOAT_DTYPES
from scree_core.dispatch import Call, run
from scree_core.ops.reduction import prepare_reduction
from scree_core.protocols import ArrayT


def varlen_mean(x: Array[ArrayT], *, empty: Any = "identity", backend: str | None = None) -> ArrayT:
    """Average each row.

    Parameters
    ----------
    x : Array
        Floating point, any features.
    empty : "identity", "nan", "error" or a number, default "identity"
        What an empty row gives: the identity (0), NaN, an error, or that number.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    array of shape (batch, *features)
        The mean of each row, in the dtype of x.

    Raises
    ------
    ShapeError
        Another dtype, or an empty row with ``empty="error"``.
    ArgumentError
        ``empty`` is none of these, or the dtype can't hold it.

    Notes
    -----
    ``y = sum(x) / length``. Halves are added up in float32.
    ``empty="error"`` reads the offsets unless ``min_length`` is known to be positive; nothing else syncs
    for its own sake.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.varlen_mean(scree.from_lengths(np.array([2.0, 3.0, 4.0]), [0, 1, 2])).tolist()
    [0.0, 2.0, 3.5]
    """
    return run(prepare(x, empty=empty), backend)


def prepare(x: Array[Any], *, empty: Any = "identity") -> Call:
    """Check the arguments."""
    return prepare_reduction("varlen_mean", x, empty, 0.0, FLOAT_DTYPES)
