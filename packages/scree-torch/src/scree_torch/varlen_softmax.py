"""Softmax and log-sum-exp of rows, from their extremes and sums."""

from __future__ import annotations

import math
from typing import Any

import torch

from scree_torch.differentiable import Differentiable
from scree_torch.reductions import narrowed, repeat_rows, row_extreme, row_sum, widened
from scree_torch.segments import Segments


def varlen_softmax(x: torch.Tensor, segments: Segments) -> torch.Tensor:
    """Return ``exp(x - top) / sum(exp(x - top))`` over each row, in the dtype of x, computed in float32 or wider.

    Zeros where all of a row is -inf, NaN where one is +inf.
    """
    return _Softmax.apply(x, *segments)


def varlen_logsumexp(x: torch.Tensor, segments: Segments) -> torch.Tensor:
    """Return ``top + log(sum(exp(x - top)))`` of each row, ``(batch, *features)``; -inf for an empty one."""
    return _LogSumExp.apply(x, *segments)


def _exponentials(x: torch.Tensor, segments: Segments) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each row's top, the exponentials below it, and their sum.

    An infinite top isn't subtracted, for inf - inf is NaN; what comes of it then is 0 or inf by itself.
    """
    top = row_extreme(x, segments, "amax")
    exps = torch.exp(x - repeat_rows(top.masked_fill(top.isinf(), 0), segments))
    return top, exps, row_sum(exps, segments)


class _Softmax(Differentiable):
    @staticmethod
    def forward(
        x: torch.Tensor, ids: torch.Tensor, chunk: torch.Tensor, row: torch.Tensor, batch: int, tail: bool
    ) -> torch.Tensor:
        segments = Segments(ids, chunk, row, batch, tail)
        top, exps, total = _exponentials(widened(x), segments)
        total = total.masked_fill(total == 0, 1).masked_fill(top == math.inf, math.nan)
        return narrowed(exps / repeat_rows(total, segments), x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ids, chunk, row, ctx.batch, ctx.tail = inputs
        ctx.save_for_backward(output, ids, chunk, row)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> Any:
        out, ids, chunk, row = ctx.saved_tensors
        segments = Segments(ids, chunk, row, ctx.batch, ctx.tail)
        y, d = widened(out), widened(d_out)
        d_x = y * (d - repeat_rows(row_sum(y * d, segments), segments))
        return narrowed(d_x, d_out.dtype), None, None, None, None, None


class _LogSumExp(Differentiable):
    @staticmethod
    def forward(
        x: torch.Tensor, ids: torch.Tensor, chunk: torch.Tensor, row: torch.Tensor, batch: int, tail: bool
    ) -> torch.Tensor:
        top, _, total = _exponentials(widened(x), Segments(ids, chunk, row, batch, tail))
        return narrowed(top.masked_fill(top.isinf(), 0) + torch.log(total), x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ids, chunk, row, ctx.batch, ctx.tail = inputs
        ctx.save_for_backward(x, ids, chunk, row)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> Any:
        x, ids, chunk, row = ctx.saved_tensors
        segments = Segments(ids, chunk, row, ctx.batch, ctx.tail)
        d_x = repeat_rows(widened(d_out), segments) * varlen_softmax(widened(x), segments)
        return narrowed(d_x, d_out.dtype), None, None, None, None, None
