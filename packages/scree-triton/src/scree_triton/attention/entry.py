"""Variable-length attention on tensors, by Triton kernels, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from scree_core.layout import Layout
from scree_torch.tracing import is_real
from scree_torch.varlen_attention.options import Options
from scree_triton.attention import run
from scree_triton.attention.batch import batch_of
from scree_triton.attention.function import Attention
from scree_triton.attention.operators import triton_attention

__all__ = ["program_for", "varlen_attention"]


def varlen_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_layout: Layout[torch.Tensor],
    k_layout: Layout[torch.Tensor],
    sinks: torch.Tensor | None,
    options: Options,
    *,
    return_lse: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the output ``(total_q, heads, head_dim_v)`` and, if asked, the lse ``(total_q, heads)``.

    Parameters
    ----------
    q, k, v : torch.Tensor
        Packed, float16, bfloat16 or float32, with any strides.
    q_layout, k_layout : Layout
        Their rows.
    sinks : torch.Tensor of shape (heads,), optional
        One more logit for each head.
    options : Options
        The rest.
    return_lse : bool
        Whether the lse is returned.

    Notes
    -----
    For backward, q, k, v and the output are kept, and 4 bytes for each query and head (8 of float32 input).
    No call waits for the device. The map of tiles is made once for a layout.
    """
    program = program_for(q, k, v, q_layout, k_layout, sinks, options, return_lse=return_lse)
    if program is not None:
        return program(q, k, v, q_layout, k_layout, sinks)
    left, right = options.window
    k_offsets = None if k_layout.offsets is q_layout.offsets else k_layout.offsets
    layout = q_layout.offsets, k_offsets
    bounds = q_layout.max_length, k_layout.max_length
    rest = *bounds, options.causal, options.scale, left, right, options.softcap
    out, lse, _ = triton_attention(q, k, v, *layout, sinks, *rest, return_lse)
    return out, lse.t() if return_lse else None


def program_for(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_layout: Layout[torch.Tensor],
    k_layout: Layout[torch.Tensor],
    sinks: torch.Tensor | None,
    options: Options,
    *,
    return_lse: bool,
) -> Callable[..., Any] | None:
    """Return what computes attention on all arrays of such a form; None where no kernel is to be launched now.

    That is on tensors that stand for values under a trace, and where there are no elements.
    """
    if not (is_real(q) and q.numel() and v.numel() and q_layout.batch_size):
        return None
    plan = run.plan_of(q, k, v, batch_of(q_layout, k_layout), sinks, options, want_lse=return_lse)
    return partial(_attend, plan)


def _attend(
    plan: run.Plan,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_layout: Layout[torch.Tensor],
    k_layout: Layout[torch.Tensor],
    sinks: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute what is planned."""
    batch = batch_of(q_layout, k_layout)
    learns = q.requires_grad or k.requires_grad or v.requires_grad or (sinks is not None and sinks.requires_grad)
    if learns and torch.is_grad_enabled():
        found = Attention.apply(q, k, v, sinks, batch, plan)
        return found if plan.want_lse else (found, None)
    out, lse, _ = run.forward(q, k, v, sinks, batch, plan, learns=False)
    return out, None if lse is None else lse.t()
