"""Ways to write variable-length self-attention in PyTorch, all from packed arrays and back to them.

``torch.nested`` takes part only without causality: for jagged tensors on the CPU PyTorch 2.13 logs "Nested tensors for
query / key are not supported when is_causal=True" and raises "No viable backend for scaled_dot_product_attention was
found".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from competitors.candidate import Candidate
from torch.nn.functional import scaled_dot_product_attention
from workloads import Attention

import scree

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def candidates(workload: Attention) -> dict[str, Candidate]:
    """Return every way by its name."""
    ways: dict[str, Attend] = {"scree": packed(workload), "padded + mask": padded(workload, masked=True)}
    if workload.causal:
        # Behind a row's last query there is only padding, which none of its queries sees: no mask of keys.
        ways["padded, is_causal"] = padded(workload, masked=False)
    else:
        ways["torch.nested, jagged"] = nested(workload)
    ways["SDPA row by row"] = by_row(workload)
    return {name: candidate(attend, workload) for name, attend in ways.items()}


def candidate(attend: Attend, workload: Attention) -> Candidate:
    """Return one way as what is timed."""
    arrays = [torch.from_numpy(x) for x in workload.qkv()]
    shape = arrays[0].shape
    cotangent = torch.from_numpy(np.random.default_rng(9).standard_normal(shape, np.float32).astype(workload.dtype))

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return attend(*arrays)

    def step() -> tuple[torch.Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in arrays]
        return torch.autograd.grad(attend(*leaves), leaves, cotangent)

    return Candidate(forward, step, lambda x: x.numpy())  # type: ignore[arg-type]


def packed(workload: Attention) -> Attend:
    """Attend by scree."""
    layout = scree.from_lengths(torch.from_numpy(workload.qkv()[0]), workload.lengths).layout

    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = (scree.Array.trusted(x, layout) for x in qkv)
        return scree.varlen_attention(q, k, v, causal=workload.causal).values

    return attend


def padded(workload: Attention, *, masked: bool) -> Attend:
    """Pad every row to the longest; mask keys that are padding, and those behind the query, or let the kernel do."""
    lengths = torch.tensor(workload.lengths)
    batch, width = len(lengths), int(lengths.max())
    real = torch.arange(width) < lengths[:, None]
    cells = real.flatten().nonzero().squeeze(1)
    mask = real[:, None, None, :]
    if workload.causal:
        mask = mask & torch.ones(width, width, dtype=torch.bool).tril()

    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        rectangles = []
        for x in qkv:
            blank = x.new_zeros(batch * width, *x.shape[1:])
            rectangles.append(blank.index_copy(0, cells, x).unflatten(0, (batch, width)).transpose(1, 2))
        options: dict[str, Any] = {"attn_mask": mask} if masked else {"is_causal": True}
        out = scaled_dot_product_attention(*rectangles, **options)
        return out.transpose(1, 2).flatten(0, 1).index_select(0, cells)

    return attend


def nested(workload: Attention) -> Attend:
    """Hand PyTorch its own jagged tensors."""
    offsets = torch.tensor((0, *workload.lengths)).cumsum(0)
    longest = {"min_seqlen": min(workload.lengths), "max_seqlen": max(workload.lengths)}

    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        jagged = (torch.nested.nested_tensor_from_jagged(x, offsets, **longest).transpose(1, 2) for x in qkv)
        out = scaled_dot_product_attention(*jagged)
        return out.transpose(1, 2).values()  # type: ignore[operator]

    return attend


def by_row(workload: Attention) -> Attend:
    """Call SDPA for each row; split, for a slice's gradient is as large as the whole."""

    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        outs = []
        for row in zip(*(x.split(workload.lengths) for x in qkv), strict=True):
            q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in row)
            out = scaled_dot_product_attention(q, k, v, is_causal=workload.causal)
            outs.append(out.squeeze(0).transpose(0, 1))
        return torch.cat(outs)

    return attend
