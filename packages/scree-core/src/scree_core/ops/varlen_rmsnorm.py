"""Root-mean-square normalisation over the last axis."""

from __future__ import annotations

from typing import Any

from scree_core.arguments import front, restore
from scree_core.array import Array
from scree_core.dispatch import Call, run
from scree_core.ops.normalised import check_affine, check_normalised
from scree_core.protocols import ArrayT


def varlen_rmsnorm(
    x: Array[ArrayT], weight: ArrayT | None = None, *, eps: float = 1e-6, backend: str | None = None
) -> Array[ArrayT]:
    """Divide each element by the root mean square of its last axis, then scale.

    Parameters
    ----------
    x : Array with values (total, ..., features)
        Floating point; the last axis isn't the ragged one.
    weight : array of shape (features,), optional
        Scale.
    eps : float, default 1e-6
        Added to the mean square; not negative.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array
        On the layout of x, in its dtype.

    Raises
    ------
    ShapeError
        The last axis is ragged, x isn't floating point, or weight has another shape.
    ArgumentError
        ``eps`` is negative or not finite.

    Notes
    -----
    ``y = x / sqrt(mean(x**2) + eps) * weight`` (Zhang and Sennrich 2019, eq. 4). Statistics in
    float32 or wider. No sync.

    Examples
    --------
    >>> import numpy as np, scree
    >>> x = scree.from_lengths(np.array([[3.0, 3.0], [5.0, -5.0]]), [1, 1])
    >>> scree.varlen_rmsnorm(x, eps=0.0).values
    array([[ 1.,  1.],
           [ 1., -1.]])
    """
    return restore(x, run(prepare(x, weight, eps=eps), backend))


def prepare(x: Array[Any], weight: Any = None, *, eps: float = 1e-6) -> Call:
    """Check the arguments."""
    check_normalised(x, "varlen_rmsnorm", eps)
    arrays = {"x": x.values, **check_affine(x, weight=weight)}
    return Call("varlen_rmsnorm", (front(x), weight), {"eps": float(eps)}, arrays)
