"""Sums and extremes of rows, by scatters into one slot for each row, and their gradients.

Two scatters: the elements into chunks, the chunks into rows (``segments.CHUNK`` says why). 10,000 rows of
mean length 100 with 64 float32 features, added up on 2 CPU cores, 2026-11-22: 20 ms so, 96 with
``segment_reduce``, 87 row by row, 400 as a rectangle; the largest of each row 19 ms, and 205, 84, 430. Few long
rows (4 of 100,000) take 2 ms so, and 0.5 row by row: the loop is faster there, but it reads the offsets on the
host and can't be traced. On a GPU a scatter adds in any order, so last bits may vary between runs,
except under ``torch.use_deterministic_algorithms``.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from scree_torch.differentiable import Differentiable
from scree_torch.segments import Segments


def row_sum(x: torch.Tensor, segments: Segments) -> torch.Tensor:
    """Add up each row: ``(total, *features)`` to ``(batch, *features)``.

    Halves are added up in float32, unsigned integers and bools in int64; the result is of the dtype of x,
    or int64. Its gradient is ``repeat_rows``.
    """
    if not x.is_floating_point():
        return _sum(x.to(torch.int64), segments)
    return _RowSum.apply(x, *segments)


def repeat_rows(dense: torch.Tensor, segments: Segments) -> torch.Tensor:
    """Give each element its row's entry, 0 in a tail: ``(batch, *features)`` to ``(total, *features)``.

    Its gradient is ``row_sum``, in which halves don't lose what PyTorch's own would: it adds in the dtype.
    """
    if not dense.is_floating_point():
        return _repeat(dense, segments)
    return _RepeatRows.apply(dense, *segments)


def row_extreme(x: torch.Tensor, segments: Segments, reduce: str) -> torch.Tensor:
    """Take the largest (``"amax"``) or smallest (``"amin"``) of each row: ``(total, *features)`` to
    ``(batch, *features)``.

    NaN where a row has one. An empty row gives -inf or inf, or the least or greatest integer. Elements that
    are equal to the result share its gradient equally.
    """  # noqa: D205
    return _RowExtreme.apply(x, *segments, reduce)


def _sum(x: torch.Tensor, segments: Segments) -> torch.Tensor:
    chunks = x.new_zeros((segments.row.shape[0], *x.shape[1:])).index_add_(0, segments.chunk, x)
    return x.new_zeros((segments.batch + 1, *x.shape[1:])).index_add_(0, segments.row, chunks)[: segments.batch]


def _repeat(dense: torch.Tensor, segments: Segments) -> torch.Tensor:
    if segments.tail:  # its row number is one past the last
        dense = torch.cat([dense, dense.new_zeros((1, *dense.shape[1:]))])
    return dense.index_select(0, segments.ids)


# PyTorch's compiler wants every argument by name, so segments come as their parts below.


class _RowSum(Differentiable):
    @staticmethod
    def forward(
        x: torch.Tensor, ids: torch.Tensor, chunk: torch.Tensor, row: torch.Tensor, batch: int, tail: bool
    ) -> torch.Tensor:
        return narrowed(_sum(widened(x), Segments(ids, chunk, row, batch, tail)), x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ids, chunk, row, ctx.batch, ctx.tail = inputs
        ctx.save_for_backward(ids, chunk, row)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> Any:
        ids, chunk, row = ctx.saved_tensors
        return _RepeatRows.apply(d_out, ids, chunk, row, ctx.batch, ctx.tail), None, None, None, None, None


class _RepeatRows(Differentiable):
    @staticmethod
    def forward(
        dense: torch.Tensor, ids: torch.Tensor, chunk: torch.Tensor, row: torch.Tensor, batch: int, tail: bool
    ) -> torch.Tensor:
        return _repeat(dense, Segments(ids, chunk, row, batch, tail))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ids, chunk, row, ctx.batch, ctx.tail = inputs
        ctx.save_for_backward(ids, chunk, row)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> Any:
        ids, chunk, row = ctx.saved_tensors
        return _RowSum.apply(d_out, ids, chunk, row, ctx.batch, ctx.tail), None, None, None, None, None


class _RowExtreme(Differentiable):
    @staticmethod
    def forward(
        x: torch.Tensor,
        ids: torch.Tensor,
        chunk: torch.Tensor,
        row: torch.Tensor,
        batch: int,
        tail: bool,
        reduce: str,
    ) -> torch.Tensor:
        worst = _worst(x.dtype, reduce)
        chunks = _scatter_extreme(x.new_full((row.shape[0], *x.shape[1:]), worst), chunk, x, reduce)
        return _scatter_extreme(x.new_full((batch + 1, *x.shape[1:]), worst), row, chunks, reduce)[:batch]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ids, chunk, row, ctx.batch, ctx.tail, _ = inputs
        ctx.save_for_backward(x, output, ids, chunk, row)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> Any:
        x, out, ids, chunk, row = ctx.saved_tensors
        segments = Segments(ids, chunk, row, ctx.batch, ctx.tail)
        chosen = x == _repeat(out, segments)
        ties = _sum(chosen.to(torch.int64), segments)
        share = repeat_rows(d_out / ties.clamp(min=1).to(d_out.dtype), segments)
        return share.masked_fill(~chosen, 0), None, None, None, None, None, None


def _scatter_extreme(out: torch.Tensor, index: torch.Tensor, x: torch.Tensor, reduce: str) -> torch.Tensor:
    index = index.reshape(-1, *(1 for _ in x.shape[1:])).expand(x.shape)
    return out.scatter_reduce_(0, index, x, reduce)


def _worst(dtype: torch.dtype, reduce: str) -> Any:
    if dtype.is_floating_point:
        return -math.inf if reduce == "amax" else math.inf
    info = torch.iinfo(dtype)
    return info.min if reduce == "amax" else info.max


def widened(x: torch.Tensor) -> torch.Tensor:
    """Cast half precision to float32 to compute in; everything else stays."""
    return x.to(torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else x


def narrowed(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Cast back; what has the dtype stays, for PyTorch 2.11 compiles a cast to the same into a gradient of zeros."""
    return x if x.dtype == dtype else x.to(dtype)
