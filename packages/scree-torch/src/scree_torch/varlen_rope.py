"""Rotary position embedding, whose gradient is the rotation back."""

from __future__ import annotations

from typing import Any

import torch

from scree_torch.differentiable import Differentiable
from scree_torch.reductions import narrowed, widened


def varlen_rope(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, at: torch.Tensor, *, interleaved: bool
) -> torch.Tensor:
    """Rotate pairs of the last axis of x by the angles at each element's position.

    Parameters
    ----------
    x : torch.Tensor of shape (total, ..., head_dim)
        Elements.
    cos, sin : torch.Tensor of shape (max_position, r)
        Tables.
    at : torch.Tensor of int of shape (total,)
        Position of each element.
    interleaved : bool
        Whether neighbours are a pair, or halves are.

    Returns
    -------
    torch.Tensor, shape and dtype of x
        Computed in float32 or wider.

    Notes
    -----
    For backward it keeps the angles, ``total * 2 r`` elements, and x only where a table needs a gradient.
    """
    if at.dtype not in (torch.int32, torch.int64):
        at = at.to(torch.int64)
    # Per element, with axes of 1 to broadcast over the heads.
    shape = (x.shape[0], *(1 for _ in x.shape[1:-1]), cos.shape[-1])
    c, s = (widened(table).index_select(0, at).reshape(shape) for table in (cos, sin))
    learned = torch.is_grad_enabled() and (c.requires_grad or s.requires_grad)
    return _Rotate.apply(x, c, s, interleaved, learned)


class _Rotate(Differentiable):
    @staticmethod
    def forward(x: torch.Tensor, c: torch.Tensor, s: torch.Tensor, interleaved: bool, learned: bool) -> torch.Tensor:
        x1, x2, rest = _split(x, c.shape[-1], interleaved)
        y1 = torch.addcmul(x1 * c, x2, s, value=-1)
        y2 = torch.addcmul(x2 * c, x1, s)
        return narrowed(_join(y1, y2, rest, interleaved), x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, c, s, ctx.interleaved, ctx.learned = inputs
        ctx.save_for_backward(c, s, *([x] if ctx.learned else []))

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> Any:
        c, s, *kept = ctx.saved_tensors
        d_c = d_s = None
        if kept:
            x1, x2, _ = _split(kept[0], c.shape[-1], ctx.interleaved)
            d1, d2, _ = _split(d_out, c.shape[-1], ctx.interleaved)
            d_c, d_s = (d1 * x1 + d2 * x2).sum_to_size(c.shape), (d2 * x1 - d1 * x2).sum_to_size(s.shape)
        return _Rotate.apply(d_out, c, -s, ctx.interleaved, ctx.learned), d_c, d_s, None, None


def _split(x: torch.Tensor, r: int, interleaved: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return the first and the second of each pair, and what isn't rotated, if there is any."""
    # Asked of x and not of the rest, whose size of 0 PyTorch 2.11 can't compile.
    rest = None if x.shape[-1] == 2 * r else x[..., 2 * r :]
    pairs = widened(x[..., : 2 * r])
    if interleaved:
        return pairs[..., 0::2], pairs[..., 1::2], rest
    return pairs[..., :r], pairs[..., r:], rest


def _join(y1: torch.Tensor, y2: torch.Tensor, rest: torch.Tensor | None, interleaved: bool) -> torch.Tensor:
    pairs = torch.stack([y1, y2], -1).flatten(-2) if interleaved else torch.cat([y1, y2], -1)
    return pairs if rest is None else torch.cat([pairs, rest], -1)
