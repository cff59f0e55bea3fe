"""Attention on tensors: the fastest way that was found for each device.

CPU: PyTorch's flash kernel row by row, in one operator for the whole batch; rows of few elements together with
others of about their length; plain products in blocks where the kernel doesn't serve, float32 gradients among these
(``by_rows``).

CUDA: PyTorch's own variable-length flash attention (``flash_cuda``) for halves without a softcap; rectangles
(``padded``) for the rest.

Other devices, MPS among them: rectangles. Not measured.
"""

from __future__ import annotations

import math

import torch

from scree_torch.varlen_attention import flash_cuda
from scree_torch.varlen_attention.gradient import Attention
from scree_torch.varlen_attention.options import Options, wide_dtype

__all__ = ["Options", "needs_lengths", "varlen_attention"]


def needs_lengths(q: torch.Tensor, v: torch.Tensor, options: Options) -> bool:
    """Tell whether bounds of the row lengths are needed: rectangles have that width."""
    return q.device.type not in ("cpu", "meta") and not flash_cuda.serves(q, v, options)


def varlen_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor,
    max_q: int | None,
    max_k: int | None,
    sinks: torch.Tensor | None,
    options: Options,
    *,
    tail: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output ``(total_q, heads, head_dim_v)`` and the lse ``(total_q, heads)``; ``Backend`` says more.

    Parameters
    ----------
    q, k, v : torch.Tensor
        Packed.
    q_offsets, k_offsets : torch.Tensor of shape (batch + 1,)
        Row boundaries.
    max_q, max_k : int, optional
        Bounds of the row lengths.
    sinks : torch.Tensor of shape (heads,), optional
        One more logit for each head. ``sum(exp(S))`` becomes ``exp(lse) + exp(sink)``, so the output shrinks by
        ``sigmoid(lse - sink)``, and the sinks' gradient goes through the lse. That of ``sigmoid`` itself would
        take the sink's weight as ``1 - share``, of which nothing is left where the sink is small.
    options : Options
        The rest.
    tail : bool
        Whether queries may follow the last row, whose results are left open.
    """
    causal, scale, (left, right), softcap = options
    layout = q_offsets, None if k_offsets is q_offsets else k_offsets, max_q, max_k
    k, v = _other_than(k, q), _other_than(v, q, k)
    out, lse = Attention.apply(q, k, v, *layout, causal, scale, left, right, softcap)
    if sinks is not None:
        if tail:  # kernels leave it as it was in memory, and a sink's gradient adds up all queries
            alive = torch.arange(q.shape[0], device=q.device).unsqueeze(1) < q_offsets[-1]
            out, lse = torch.where(alive.unsqueeze(2), out, 0), torch.where(alive, lse, -math.inf)
        share = torch.nn.functional.logsigmoid(lse - sinks.to(lse.dtype)).exp()
        out = (out.to(wide_dtype(q)) * share.unsqueeze(-1)).to(q.dtype)
    return out, lse


def _other_than(x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """Return another tensor of the same memory if x is one of the others, which torch.compile doesn't take twice."""
    return x.view_as(x) if any(x is other for other in others) else x
