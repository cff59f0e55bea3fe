"""Cross-entropy of each element: core's formula and its gradient, which starts from the logits as they are given."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from scree_core import reference
from scree_mlx import namespace
from scree_mlx.custom_gradient import custom_gradient


def _wide(logits: mx.array) -> mx.array:
    return logits.astype(mx.float32) if logits.dtype in (mx.float16, mx.bfloat16) else logits


def _vjp(primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array) -> tuple[mx.array, mx.array]:
    logits, labels = primals
    (d_logits,) = reference.varlen_cross_entropy_vjp(namespace, cotangent, _wide(logits), labels)
    return d_logits.astype(logits.dtype), mx.zeros_like(labels)


def _as_elements(fn: Any, inputs: tuple[mx.array, mx.array], axes: tuple[Any, Any]) -> tuple[mx.array, int]:
    """Put what is mapped over among the elements, each of which goes by itself."""
    size = next(x.shape[axis] for x, axis in zip(inputs, axes, strict=True) if axis is not None)
    logits, labels = (
        mx.broadcast_to(x, (size, *x.shape)) if axis is None else mx.moveaxis(x, axis, 0)
        for x, axis in zip(inputs, axes, strict=True)
    )
    total, vocab = logits.shape[1:]
    losses = fn(logits.reshape(size * total, vocab), labels.reshape(size * total))
    return losses.reshape(size, total), 0


@custom_gradient(_vjp, vmap=_as_elements)
def cross_entropy(logits: mx.array, labels: mx.array) -> mx.array:
    """Return the loss of each element ``(total,)``: 0 for a label below 0, NaN for one that is no class."""
    return reference.varlen_cross_entropy(namespace, _wide(logits), labels)
