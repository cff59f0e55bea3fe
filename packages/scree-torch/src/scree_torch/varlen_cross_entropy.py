"""Cross-entropy of each element: the logits are all that is kept for the gradient."""

from __future__ import annotations

import math
from typing import Any

import torch

from scree_torch.differentiable import Differentiable
from scree_torch.reductions import narrowed, widened
from scree_torch.tracing import in_transform


def varlen_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss of each element in float32 or wider: 0 for a label below 0, NaN for one that is no class."""
    return _CrossEntropy.apply(logits, labels)


def _classes(labels: torch.Tensor, vocab: int) -> torch.Tensor:
    """Return a class for each label, ``(total, 1)``, to be read without harm."""
    return labels.clamp(0, vocab - 1).to(torch.int64).unsqueeze(1)


def gradient(logits: torch.Tensor, labels: torch.Tensor, d_out: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the logits, given that of the losses, by operations that have gradients themselves."""
    vocab = logits.shape[1]
    at = _classes(labels, vocab)
    weight = d_out.masked_fill(labels >= vocab, math.nan).masked_fill(labels < 0, 0).unsqueeze(1)
    nothing = (labels < 0).unsqueeze(1)  # where the logits may be anything, and 0 times NaN isn't 0
    d = torch.softmax(widened(logits), 1)
    if torch.compiler.is_compiling():  # PyTorch's compiler fuses this, but no scatter, which needs d in memory
        d = ((d - (torch.arange(vocab, device=at.device) == at).to(d.dtype)) * weight).masked_fill(nothing, 0)
    else:
        ones = torch.full_like(at, -1, dtype=d_out.dtype)
        if torch.is_grad_enabled() or in_transform():
            d = (d.scatter_add(1, at, ones) * weight).masked_fill(nothing, 0)
        else:  # one array of the logits' size is enough
            d.scatter_add_(1, at, ones).mul_(weight).masked_fill_(nothing, 0)
    return narrowed(d, logits.dtype)


class _CrossEntropy(Differentiable):
    # torch.nn.functional.cross_entropy would keep the log-probabilities in float32, and halves' logits widened.

    @staticmethod
    def forward(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        vocab = logits.shape[1]
        logs = torch.log_softmax(widened(logits), 1)
        losses = -logs.gather(1, _classes(labels, vocab)).squeeze(1)
        return losses.masked_fill(labels >= vocab, math.nan).masked_fill(labels < 0, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> Any:
        logits, labels = ctx.saved_tensors
        return gradient(logits, labels, d_out), None
