"""Attention for autograd in eager mode: a plain function, which costs a fraction of a registered operator."""

from __future__ import annotations

from typing import Any

import torch

from scree_torch.varlen_attention import varlen_attention as composite
from scree_torch.varlen_attention.options import Options
from scree_triton.attention import run
from scree_triton.attention.backward import backward
from scree_triton.attention.batch import Batch


class Attention(torch.autograd.Function):
    """Attention by the kernels, with their gradient; the gradient of that is the torch backend's."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        sinks: torch.Tensor | None,
        batch: Batch,
        plan: run.Plan,
    ) -> Any:
        """Return the output, and the lse ``(total_q, heads)`` if that is planned."""
        out, lse, stats = run.forward(q, k, v, sinks, batch, plan, learns=True)
        ctx.batch, ctx.plan, ctx.has_sinks = batch, plan, sinks is not None
        if sinks is None and lse is None:
            ctx.save_for_backward(q, k, v, out, stats)
            return out
        ctx.save_for_backward(q, k, v, out, stats, *(x for x in (sinks, lse) if x is not None))
        ctx.set_materialize_grads(False)
        return out if lse is None else (out, lse.t())

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> Any:
        """Return the gradients of q, k, v and the sinks, from those of the output and, if there is one, the lse."""
        d_out, d_lse = cotangents if len(cotangents) == 2 else (*cotangents, None)
        q, k, v, out, stats, *rest = ctx.saved_tensors
        sinks, lse = rest.pop(0) if ctx.has_sinks else None, rest[0] if rest else None
        if torch.is_grad_enabled():
            offsets = ctx.batch.q_offsets, ctx.batch.k_offsets
            return *_differentiable(d_out, d_lse, q, k, v, sinks, offsets, ctx.plan.options), None, None
        if d_out is None:
            d_out = torch.zeros_like(out)
        found = run.Found(out, lse, stats)
        gradients = backward(d_out, d_lse, q, k, v, found, sinks, ctx.batch, ctx.plan)
        return *gradients, None, None


def _differentiable(
    d_out: torch.Tensor | None,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    offsets: tuple[torch.Tensor, torch.Tensor],
    options: Options,
) -> list[torch.Tensor | None]:
    """Return gradients that have a gradient: those of the torch backend, computed once more."""
    # One tensor may be given twice: each place has its own gradient.
    q, k, v = (x.view_as(x) for x in (q, k, v))
    out, lse = composite(q, k, v, *offsets, None, None, sinks, options)
    pairs = [(y, d) for y, d in ((out, d_out), (lse, d_lse)) if d is not None]
    inputs = [q, k, v, sinks]
    wanted = [x for x in inputs if x is not None and x.requires_grad]
    outputs, upstream = [y for y, _ in pairs], [d for _, d in pairs]
    found = torch.autograd.grad(outputs, wanted, upstream, create_graph=True, allow_unused=True)
    by_input = dict(zip(map(id, wanted), found, strict=True))
    return [by_input.get(id(x)) for x in inputs]
