"""Layer normalisation: each element by itself, over its last axis."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.making import constant


def varlen_layernorm(xp: Namespace, x: Any, weight: Any | None, bias: Any | None, *, eps: float) -> Any:
    """Bring the last axis to mean 0 and variance 1, then scale and shift it.

    Parameters
    ----------
    x : array of shape (total, ..., feature)
        Elements.
    weight, bias : array of shape (feature,), or None
        Scale and shift; None for 1 and 0.
    eps : float
        Added to the variance.

    Returns
    -------
    array, shape and dtype of x

    Notes
    -----
    ``y = (x - mean) / sqrt(var + eps) * weight + bias``, with the biased variance ``mean((x - mean)^2)``.
    Ba, Kiros & Hinton 2016, eq. 3 and 4. O(x.size).

    Examples
    --------
    >>> import numpy as np
    >>> varlen_layernorm(np, np.array([[1.0, 3.0]]), None, np.array([0.0, 1.0]), eps=0.0)
    array([[-1.,  2.]])
    """
    y, _ = _normalise(xp, x, eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def varlen_layernorm_vjp(
    xp: Namespace, d_out: Any, x: Any, weight: Any | None, bias: Any | None, *, eps: float
) -> tuple[Any, Any | None, Any | None]:
    """Return the gradients of ``varlen_layernorm`` with respect to x, weight and bias.

    Parameters
    ----------
    d_out : array of shape (total, ..., feature)
        Cotangent of the output.
    x, weight, bias, eps
        As given to ``varlen_layernorm``.

    Returns
    -------
    dx : array, shape of x
    d_weight, d_bias : array of shape (feature,), or None
        None where the weight or bias is.

    Notes
    -----
    With ``n = (x - mean) / std``, ``std = sqrt(var + eps)`` and ``g = d_out * weight``:

        dx = (g - mean(g) - n * mean(g * n)) / std
        d_weight = sum(d_out * n);  d_bias = sum(d_out)      over all axes but the last
    """
    n, std = _normalise(xp, x, eps)
    g = d_out if weight is None else d_out * weight
    dx = (g - _mean(xp, g) - n * _mean(xp, g * n)) / std
    leading = tuple(range(x.ndim - 1))
    d_weight = None if weight is None else xp.sum(d_out * n, axis=leading)
    d_bias = None if bias is None else xp.sum(d_out, axis=leading)
    return dx, d_weight, d_bias


def _normalise(xp: Namespace, x: Any, eps: float) -> tuple[Any, Any]:
    centred = x - _mean(xp, x)
    std = xp.sqrt(_mean(xp, centred * centred) + constant(xp, eps, x))
    return centred / std, std


def _mean(xp: Namespace, x: Any) -> Any:
    return xp.sum(x, axis=-1, keepdims=True) / constant(xp, x.shape[-1], x)
