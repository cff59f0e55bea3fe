"""Root-mean-square normalisation: each element by itself, over its last axis."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.making import constant


def varlen_rmsnorm(xp: Namespace, x: Any, weight: Any | None, *, eps: float) -> Any:
    """Divide the last axis by its root mean square, then scale it.

    Parameters
    ----------
    x : array of shape (total, ..., feature)
        Elements.
    weight : array of shape (feature,), or None
        Scale; None for 1.
    eps : float
        Added to the mean square.

    Returns
    -------
    array, shape and dtype of x

    Notes
    -----
    ``y = x / sqrt(mean(x^2) + eps) * weight``. Zhang & Sennrich 2019, eq. 4; the eps is that of Llama. O(x.size).

    Examples
    --------
    >>> import numpy as np
    >>> varlen_rmsnorm(np, np.array([[3.0, -3.0]]), None, eps=0.0)
    array([[ 1., -1.]])
    """
    n = x / _rms(xp, x, eps)
    return n if weight is None else n * weight


def varlen_rmsnorm_vjp(xp: Namespace, d_out: Any, x: Any, weight: Any | None, *, eps: float) -> tuple[Any, Any | None]:
    """Return the gradients of ``varlen_rmsnorm`` with respect to x and weight.

    Parameters
    ----------
    d_out : array of shape (total, ..., feature)
        Cotangent of the output.
    x, weight, eps
        As given to ``varlen_rmsnorm``.

    Returns
    -------
    dx : array, shape of x
    d_weight : array of shape (feature,), or None
        None where the weight is.

    Notes
    -----
    With ``n = x / rms``, ``rms = sqrt(mean(x^2) + eps)`` and ``g = d_out * weight``:

        dx = (g - n * mean(g * n)) / rms
        d_weight = sum(d_out * n)      over all axes but the last
    """
    rms = _rms(xp, x, eps)
    n = x / rms
    g = d_out if weight is None else d_out * weight
    dx = (g - n * _mean(xp, g * n)) / rms
    return dx, None if weight is None else xp.sum(d_out * n, axis=tuple(range(x.ndim - 1)))


def _rms(xp: Namespace, x: Any, eps: float) -> Any:
    return xp.sqrt(_mean(xp, x * x) + constant(xp, eps, x))


def _mean(xp: Namespace, x: Any) -> Any:
    return xp.sum(x, axis=-1, keepdims=True) / constant(xp, x.shape[-1], x)
