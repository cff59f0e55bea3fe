"""Layer and RMS normalisation: a whole row in registers, read once and written once.

RMS normalisation is layer normalisation that takes the mean for 0, so both are one pair of kernels.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from scree_torch import norms
from scree_triton.norms.backward import gradients
from scree_triton.norms.forward import normalised


def varlen_layernorm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, eps: float
) -> torch.Tensor:
    """Return ``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axis.

    Parameters
    ----------
    x : torch.Tensor of shape (..., features)
        Elements in float16, bfloat16 or float32.
    weight, bias : torch.Tensor of shape (features,), or None
        Scale and shift, in any of these dtypes.
    eps : float
        Added to the variance.

    Returns
    -------
    torch.Tensor, shape and dtype of x
        Computed in float32.

    Notes
    -----
    For backward it keeps its inputs and two float32 numbers per row. No sync.
    """
    return _norm(x, weight, bias, eps, centred=True)


def varlen_rmsnorm(x: torch.Tensor, weight: torch.Tensor | None, *, eps: float) -> torch.Tensor:
    """Return ``x / sqrt(mean(x^2) + eps) * weight`` over the last axis.

    Parameters
    ----------
    x : torch.Tensor of shape (..., features)
        Elements in float16, bfloat16 or float32.
    weight : torch.Tensor of shape (features,), or None
        Scale, in any of these dtypes.
    eps : float
        Added to the mean square.

    Returns
    -------
    torch.Tensor, shape and dtype of x
        Computed in float32.

    Notes
    -----
    For backward it keeps its inputs and one float32 number per row. No sync.
    """
    return _norm(x, weight, None, eps, centred=False)


def _norm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, *, centred: bool
) -> torch.Tensor:
    if not x.numel():  # nothing to launch
        return _by_torch(x, weight, bias, eps, centred=centred)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        return _Norm.apply(x, weight, bias, eps, centred)
    return normalised(x, weight, bias, eps, centred=centred, keep=False)[0]


class _Norm(torch.autograd.Function):
    # Forward takes the context itself: setup_context costs 10 us in every call.
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, centred: bool
    ) -> torch.Tensor:
        out, statistics = normalised(x, weight, bias, eps, centred=centred, keep=True)
        ctx.save_for_backward(x, weight, bias, statistics)
        ctx.eps, ctx.centred = eps, centred
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> Any:
        (d_out,) = cotangents
        if d_out is None:
            return None, None, None, None, None
        x, weight, bias, statistics = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # someone wants gradients of these gradients
            return *_differentiable((x, weight, bias), d_out, wanted, ctx.eps, ctx.centred), None, None
        return *gradients(d_out, x, weight, bias, statistics, wanted, centred=ctx.centred), None, None


def _differentiable(
    inputs: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None],
    d_out: torch.Tensor,
    wanted: tuple[bool, ...],
    eps: float,
    centred: bool,
) -> list[torch.Tensor | None]:
    """Return the wanted gradients, computed by PyTorch, whose own gradients are known."""
    asked = [t for t, is_wanted in zip(inputs, wanted, strict=True) if is_wanted and t is not None]
    out = _by_torch(*inputs, eps, centred=centred)
    found = iter(torch.autograd.grad(out, asked, d_out, create_graph=True))
    return [next(found) if is_wanted else None for is_wanted in wanted]


def _by_torch(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, *, centred: bool
) -> torch.Tensor:
    norm = functools.partial(norms.varlen_layernorm, bias=bias) if centred else norms.varlen_rmsnorm
    return norm(x, weight, eps=eps)
