"""A function with a gradient of its own, for autograd and ``torch.func``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class CustomVjp(torch.autograd.Function):
    """Call ``fn(*arrays)``, and ``vjp(arrays, cotangents)`` for its gradient; only ``arrays`` are saved."""

    generate_vmap_rule = True

    @staticmethod
    def forward(fn: Callable[..., Any], vjp: Callable[..., Any], *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the outputs."""
        return fn(*arrays)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what the gradient needs."""
        _, ctx.vjp, *arrays = inputs
        ctx.save_for_backward(*arrays)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[Any, ...]:
        """Compute the gradients; in differentiable operations, so that they have gradients too."""
        return (None, None, *ctx.vjp(ctx.saved_tensors, cotangents))
