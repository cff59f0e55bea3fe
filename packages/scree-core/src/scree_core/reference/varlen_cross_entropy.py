"""Cross-entropy of each element's logits and its label."""

from __future__ import annotations

import math
from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.making import arange_like, constant


def varlen_cross_entropy(xp: Namespace, logits: Any, labels: Any) -> Any:
    """Return minus the log-probability that each element's logits give to its label.

    Parameters
    ----------
    logits : array of shape (total, vocab)
        At least one class.
    labels : array of int of shape (total,)
        The class that each element is compared with; below 0 for none.

    Returns
    -------
    array of shape (total,), dtype of logits
        0 where there is no label; NaN where it is ``vocab`` or more, or the largest logit is infinite.

    Notes
    -----
    ``loss = log(sum(exp(x - top))) - (x[label] - top)``, ``x`` an element's logits and ``top`` their maximum.
    O(logits.size).

    Examples
    --------
    >>> import numpy as np
    >>> varlen_cross_entropy(np, np.zeros((3, 2)), np.array([0, 1, -1])).round(4)
    array([0.6931, 0.6931, 0.    ])
    """
    zero = constant(xp, 0.0, logits)
    below, exps, odd = _exponentials(xp, logits, labels)
    own = xp.sum(xp.where(_one_hot(xp, logits, labels), below, zero), axis=-1)
    losses = xp.log(xp.sum(exps, axis=-1)) - own
    return xp.where(labels < 0, zero, xp.where(odd, constant(xp, math.nan, logits), losses))


def varlen_cross_entropy_vjp(xp: Namespace, d_out: Any, logits: Any, labels: Any) -> tuple[Any]:
    """Return the gradient of ``varlen_cross_entropy`` with respect to the logits.

    Parameters
    ----------
    d_out : array of shape (total,)
        Cotangent of the losses; that of an element without a label is dropped.
    logits, labels
        As given to ``varlen_cross_entropy``.

    Returns
    -------
    d_logits : array, shape of logits
        0 where there is no label; NaN where the loss is NaN.

    Notes
    -----
    ``d_logits = (softmax(x) - onehot(label)) * d_out``.
    """
    zero = constant(xp, 0.0, logits)
    _, exps, odd = _exponentials(xp, logits, labels)
    softmax = exps / xp.sum(exps, axis=-1, keepdims=True)
    own = xp.astype(_one_hot(xp, logits, labels), logits.dtype)
    d_logits = (softmax - own) * xp.reshape(d_out, (-1, 1))
    d_logits = xp.where(xp.reshape(odd, (-1, 1)), constant(xp, math.nan, logits), d_logits)
    return (xp.where(xp.reshape(labels < 0, (-1, 1)), zero, d_logits),)


def _exponentials(xp: Namespace, logits: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Return ``x - top`` and ``exp(x - top)``, and for which elements no number is right, ``(total,)``."""
    zero, inf = constant(xp, 0.0, logits), constant(xp, math.inf, logits)
    top = xp.max(logits, axis=-1, keepdims=True)
    infinite = (top == inf) | (top == -inf)
    # inf - inf warns in NumPy and means nothing, so elements without a finite top are left out.
    below = xp.where(infinite, zero, logits) - xp.where(infinite, zero, top)
    return below, xp.exp(below), infinite[:, 0] | (labels >= logits.shape[-1])


def _one_hot(xp: Namespace, logits: Any, labels: Any) -> Any:
    """Return a bool ``(total, vocab)``, True at the labels that are classes."""
    return xp.reshape(labels, (-1, 1)) == arange_like(xp, logits.shape[-1], labels.dtype, labels)
