"""Layer and RMS normalisation: PyTorch's own, which compute halves in float32."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch
from torch.nn import functional


def varlen_layernorm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, eps: float
) -> torch.Tensor:
    """Return ``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axis, in the dtype of x."""
    wide, weight, bias = _alike(x, weight, bias)
    if x.shape[-1] == 1:
        # It is its own mean. PyTorch's backward cancels only up to rounding there, times 1 / sqrt(eps).
        normal = (wide - wide) / math.sqrt(eps) if eps else wide - wide + math.nan
        scaled = normal if weight is None else normal * weight
        return (scaled if bias is None else scaled + bias).to(x.dtype)
    return functional.layer_norm(wide, x.shape[-1:], weight, bias, eps).to(x.dtype)


def varlen_rmsnorm(x: torch.Tensor, weight: torch.Tensor | None, *, eps: float) -> torch.Tensor:
    """Return ``x / sqrt(mean(x^2) + eps) * weight`` over the last axis, in the dtype of x."""
    wide, weight = _alike(x, weight)
    return functional.rms_norm(wide, x.shape[-1:], weight, eps).to(x.dtype)


def _alike(*tensors: torch.Tensor | None) -> Any:
    """Cast to the widest dtype: PyTorch wants weights in the dtype of what they weigh."""
    widest = reduce(torch.promote_types, [t.dtype for t in tensors if t is not None])
    return tuple(None if t is None else t.to(widest) for t in tensors)
