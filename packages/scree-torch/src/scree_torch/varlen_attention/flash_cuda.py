"""Attention on CUDA by the variable-length flash attention in PyTorch itself, the one behind its ``varlen_attn``.

It is called as the ATen operator, whose arguments are the same from PyTorch 2.6, before there was a public
function, to 2.13, and which takes windows too. It is FlashAttention-2: rows are aligned at their ends, grouped
heads are native, rows may be empty, and no offset is read on the host.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from scree_torch.varlen_attention.options import Options

WIDEST = 256
"""The largest head_dim that it takes."""


def serves(q: torch.Tensor, v: torch.Tensor, options: Options, *, lse_gradient: bool = False) -> bool:
    """Tell whether it can compute this: halves without softcap, on a GPU of compute capability 8.0 or more."""
    return (
        q.is_cuda
        and torch.version.hip is None
        and q.dtype in (torch.float16, torch.bfloat16)
        and options.softcap is None
        and options.scale != 0  # of which it makes NaN
        and _width(q, v, lse_gradient) <= WIDEST
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(q.device) >= (8, 0)
    )


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor,
    max_q: int,
    max_k: int,
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output ``(total_q, heads, head_dim_v)`` and the lse ``(total_q, heads)`` in float32.

    Parameters
    ----------
    q, k, v : torch.Tensor
        Packed, fp16 or bf16.
    q_offsets, k_offsets : torch.Tensor of shape (batch + 1,)
        Row boundaries.
    max_q, max_k : int
        Bounds of the row lengths; large ones launch blocks that have nothing to do.
    options : Options
        What to compute.

    Notes
    -----
    Values of another size than keys, and sizes that 8 doesn't divide, are padded: one more copy.
    """
    width = _width(q, v)
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        *(_widen(x, width) for x in (q, k, v)),
        *_layout(q_offsets, k_offsets, max_q, max_k),
        0.0,
        options.causal,
        False,
        **_named(options),
    )
    # A query that sees no key is given inf.
    return out[..., : v.shape[2]], lse.masked_fill_(lse == math.inf, -math.inf).transpose(0, 1)


def backward(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor,
    max_q: int,
    max_k: int,
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of q, k and v, in their dtypes, from what ``forward`` was given and returned.

    Notes
    -----
    The operator knows no gradient of the lse, but it computes ``dS = P * (dO V^T - rowsum(dO * O))``. Two more
    columns, ones in V, ``dlse`` in dO and zeros where O should have ones, add ``P * dlse`` to that; two,
    since a half holds but the upper digits of it.
    """
    width = _width(q, v, d_lse is not None)
    q_wide, k_wide, v_wide, out_wide, d_wide = (_widen(x, width) for x in (q, k, v, out, d_out.contiguous()))
    if d_lse is not None:
        upper = d_lse.to(q.dtype)
        lower = (d_lse - upper).to(q.dtype)
        one = torch.ones_like(v[..., :2])
        v_wide = _widen(torch.cat([v, one], -1), width)
        d_wide = _widen(torch.cat([d_out, upper.unsqueeze(-1), lower.unsqueeze(-1)], -1), width)
    sums = lse.transpose(0, 1).contiguous()
    unused = torch.zeros(2, dtype=torch.uint64, device=q.device)  # the random state of dropout
    d_q, d_k, d_v = torch.ops.aten._flash_attention_backward(
        d_wide,
        q_wide,
        k_wide,
        v_wide,
        out_wide,
        sums,
        *_layout(q_offsets, k_offsets, max_q, max_k),
        0.0,
        options.causal,
        unused,
        unused,
        **_named(options),
    )
    return d_q[..., : q.shape[2]], d_k[..., : k.shape[2]], d_v[..., : v.shape[2]]


def _width(q: torch.Tensor, v: torch.Tensor, lse_gradient: bool = False) -> int:
    """Return the head_dim to pad to: one for q, k and v, and a multiple of 8."""
    return -(-max(q.shape[2], v.shape[2] + 2 * lse_gradient) // 8) * 8


def _widen(x: torch.Tensor, width: int) -> torch.Tensor:
    if x.shape[2] < width:
        return functional.pad(x, (0, width - x.shape[2]))
    return x if x.stride(-1) == 1 else x.contiguous()


def _layout(
    q_offsets: torch.Tensor, k_offsets: torch.Tensor, max_q: int, max_k: int
) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    # It takes rows of one query each, none empty, for granted where the longest has one: so call it two.
    return q_offsets.to(torch.int32), k_offsets.to(torch.int32), max(max_q, 2), max(max_k, 1)


def _named(options: Options) -> dict[str, float | int]:
    left, right = options.window
    return {
        "scale": options.scale,
        "window_size_left": left,
        "window_size_right": 0 if options.causal else right,
    }
