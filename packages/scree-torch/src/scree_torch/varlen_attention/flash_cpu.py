"""PyTorch's flash kernel for the CPU, on one row.

The kernel takes for granted that numbers of one head lie side by side, and reads foreign memory where they don't:
what lies otherwise is copied first.
"""

from __future__ import annotations

import torch

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, triangle: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output ``(lq, heads, head_dim)`` and the lse ``(lq, heads)`` of a row.

    Parameters
    ----------
    q : torch.Tensor of shape (lq, heads, head_dim)
    k, v : torch.Tensor of shape (lk, kv_heads, head_dim)
    triangle : bool
        Whether query ``i`` sees the keys up to ``i`` alone.
    scale : float
        Factor of the scores; not 0, of which the kernel makes NaN.
    """
    group = q.shape[1] // k.shape[1]
    out, lse = _forward(_heads(q), _heads(k, group), _heads(v, group), 0.0, triangle, scale=scale)
    return _packed(out), _packed(lse)


def attend_vjp(
    d_out: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    triangle: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of ``attend`` with respect to q, k and v, from what it was given and returned."""
    kv_heads = k.shape[1]
    group = q.shape[1] // kv_heads
    given = _heads(q), _heads(k, group), _heads(v, group), _heads(out), _heads(lse).contiguous()
    d_q, d_k, d_v = (_packed(g) for g in _backward(_heads(d_out), *given, 0.0, triangle, scale=scale))
    if group > 1:
        d_k, d_v = (g.unflatten(1, (kv_heads, group)).sum(2) for g in (d_k, d_v))
    return d_q, d_k, d_v


def _heads(x: torch.Tensor, group: int = 1) -> torch.Tensor:
    """Turn ``(length, heads, ...)`` into ``(1, heads, length, ...)``, every head ``group`` times."""
    if x.dim() == 3 and x.stride(-1) != 1:
        x = x.contiguous()
    x = x.transpose(0, 1).unsqueeze(0)
    return x if group == 1 else x.repeat_interleave(group, dim=1)


def _packed(x: torch.Tensor) -> torch.Tensor:
    """Undo ``_heads``."""
    return x[0].transpose(0, 1)
