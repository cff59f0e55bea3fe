"""Layer normalisation over the last axis."""

from __future__ import annotations

from typing import Any

from scree_core.arguments import front, restore
from scree_core.array import Array
from scree_core.dispatch import Call, run
from scree_core.ops.normalised import check_affine, check_normalised
from scree_core.protocols import ArrayT


def varlen_layernorm(
    x: Array[ArrayT],
    weight: ArrayT | None = None,
    bias: ArrayT | None = None,
    *,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Array[ArrayT]:
    """Normalise each element to mean 0 and variance 1 over its last axis, then scale and shift.

    Parameters
    ----------
    x : Array with values (total, ..., features)
        Floating point; the last axis isn't the ragged one.
    weight, bias : array of shape (features,), optional
        Scale and shift.
    eps : float, default 1e-5
        Added to the variance; not negative.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array
        On the layout of x, in its dtype.

    Raises
    ------
    ShapeError
        The last axis is ragged, x isn't floating point, or weight or bias has another shape.
    ArgumentError
        ``eps`` is negative or not finite.

    Notes
    -----
    ``y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias``, the variance biased (Ba et al. 2016,
    eq. 4). Statistics in float32 or wider. No sync.

    Examples
    --------
    >>> import numpy as np, scree
    >>> x = scree.from_lengths(np.array([[1.0, 3.0], [2.0, 6.0]]), [1, 1])
    >>> scree.varlen_layernorm(x, eps=0.0).values
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    return restore(x, run(prepare(x, weight, bias, eps=eps), backend))


def prepare(x: Array[Any], weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Call:
    """Check the arguments."""
    check_normalised(x, "varlen_layernorm", eps)
    arrays = {"x": x.values, **check_affine(x, weight=weight, bias=bias)}
    return Call("varlen_layernorm", (front(x), weight, bias), {"eps": float(eps)}, arrays)
