"""Reductions of rows: sum, mean, max, min and log-sum-exp, and the softmax that goes with it.

On raw arrays whose first axis is the packed one, in float32 or wider, and their offsets. Lazy: no offset is read.
Each row's NaN stays in it: nothing here adds up more than one row.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np

from scree_core.errors import UnsupportedError
from scree_mlx.choice import where
from scree_mlx.custom_gradient import custom_gradient
from scree_mlx.exponential import weight
from scree_mlx.namespace import cumulative_sum, take
from scree_mlx.segments import lengths_like, repeat, segment_extreme, segment_ids, segment_sum


def varlen_sum(x: mx.array, offsets: mx.array, empty: Any) -> mx.array:
    """Add up each row; integers and booleans in 64 bits."""
    sums = _sum(x, offsets) if mx.issubdtype(x.dtype, mx.floating) else _whole_sum(x, offsets)
    return sums if empty == 0 else _or_empty(sums, offsets, empty)


def _sum(x: mx.array, offsets: mx.array) -> mx.array:
    return segment_sum(x, segment_ids(offsets, x.shape[0]), offsets.shape[0] - 1)


def _whole_sum(x: mx.array, offsets: mx.array) -> mx.array:
    """Subtract what was added up at a row's start from that at its end: exact in integers, which just wrap round."""
    running = whole_cumsum(x)
    before = mx.concatenate([mx.zeros((1, *x.shape[1:]), dtype=running.dtype), running])
    return take(before, offsets[1:], axis=0) - take(before, offsets[:-1], axis=0)


def whole_cumsum(x: mx.array) -> mx.array:
    """Return the running sum of integers over all rows, in 64 bits."""
    return cumulative_sum(x, axis=0) if x.size else cumulative_sum(mx.zeros(x.shape, dtype=x.dtype), axis=0)


def varlen_mean(x: mx.array, offsets: mx.array, empty: Any) -> mx.array:
    """Average each row."""
    count = mx.maximum(lengths_like(offsets, x), 1).astype(x.dtype)
    return _or_empty(_sum(x, offsets) / count, offsets, empty)


def varlen_max(x: mx.array, offsets: mx.array, empty: Any) -> mx.array:
    """Take the largest element of each row; NaN wins."""
    return _or_empty(_largest(x, offsets), offsets, empty)


def varlen_min(x: mx.array, offsets: mx.array, empty: Any) -> mx.array:
    """Take the smallest element of each row; NaN wins."""
    return _or_empty(_smallest(x, offsets), offsets, empty)


def _or_empty(per_row: mx.array, offsets: mx.array, empty: Any) -> mx.array:
    filling = mx.array(np.array(empty, np.uint64)) if per_row.dtype == mx.uint64 else mx.array(empty, per_row.dtype)
    return where(lengths_like(offsets, per_row) == 0, filling, per_row)


# ------------------------------------------------------------------ max and min


def as_feature(reduction: Any, inputs: tuple[mx.array, mx.array], axes: tuple[int | None, int | None]) -> Any:
    """Map a function of ``(x, offsets)`` over an axis of ``x``: to it that is one more feature."""
    (x, offsets), (axis, of_offsets) = inputs, axes
    if axis is None or of_offsets is not None:
        raise UnsupportedError("mx.vmap maps over features alone: rows are mapped over by the op itself")
    out = reduction(mx.moveaxis(x, axis, -1), offsets)
    return out, out.ndim - 1


def _extreme(x: mx.array, offsets: mx.array, largest: bool) -> mx.array:
    ids, batch = segment_ids(offsets, x.shape[0]), offsets.shape[0] - 1
    if not mx.issubdtype(x.dtype, mx.floating):
        info = np.iinfo(str(x.dtype).rsplit(".", 1)[-1])
        return segment_extreme(x, ids, batch, largest=largest, identity=info.min if largest else info.max)
    found = segment_extreme(x, ids, batch, largest=largest, identity=-math.inf if largest else math.inf)
    unknown = segment_sum(mx.isnan(x).astype(mx.float32), ids, batch)  # a scatter compares NaN as it comes
    return mx.where(unknown > 0, mx.array(math.nan, found.dtype), found)


def _shared_by_ties(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
) -> tuple[mx.array, mx.array]:
    """Share each row's gradient equally among the elements that equal the result; MLX would give each all of it."""
    x, offsets = primals
    ids = segment_ids(offsets, x.shape[0])
    chosen = x == take(output, ids, axis=0)
    ties = segment_sum(chosen.astype(cotangent.dtype), ids, offsets.shape[0] - 1)
    share = repeat(cotangent / mx.maximum(ties, 1), ids)
    return where(chosen, share, mx.zeros_like(share)), mx.zeros_like(offsets)


@custom_gradient(_shared_by_ties, vmap=as_feature)
def _largest(x: mx.array, offsets: mx.array) -> mx.array:
    return _extreme(x, offsets, largest=True)


@custom_gradient(_shared_by_ties, vmap=as_feature)
def _smallest(x: mx.array, offsets: mx.array) -> mx.array:
    return _extreme(x, offsets, largest=False)


# ------------------------------------------------------------------ softmax and log-sum-exp


def _softmax_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
) -> tuple[mx.array, mx.array]:
    x, offsets = primals
    ids, batch = segment_ids(offsets, x.shape[0]), offsets.shape[0] - 1
    mean = segment_sum(output * cotangent, ids, batch)
    return output * (cotangent - repeat(mean, ids)), mx.zeros_like(offsets)


@custom_gradient(_softmax_vjp, vmap=as_feature)
def varlen_softmax(x: mx.array, offsets: mx.array) -> mx.array:
    """Return ``exp(x - m) / sum(exp(x - m))`` over each row, ``m`` its maximum; 0 where a row is ``-inf`` alone."""
    ids, batch = segment_ids(offsets, x.shape[0]), offsets.shape[0] - 1
    exps, total, _ = _exponentials(x, ids, batch)
    return exps / take(mx.where(total == 0, 1, total), ids, axis=0)


def varlen_logsumexp(x: mx.array, offsets: mx.array, empty: Any) -> mx.array:
    """Return ``log(sum(exp(x)))`` over each row."""
    return _or_empty(_logsumexp(x, offsets), offsets, empty)


def _logsumexp_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
) -> tuple[mx.array, mx.array]:
    x, offsets = primals
    ids = segment_ids(offsets, x.shape[0])
    return repeat(cotangent, ids) * varlen_softmax(x, offsets), mx.zeros_like(offsets)


@custom_gradient(_logsumexp_vjp, vmap=as_feature)
def _logsumexp(x: mx.array, offsets: mx.array) -> mx.array:
    ids, batch = segment_ids(offsets, x.shape[0]), offsets.shape[0] - 1
    _, total, top = _exponentials(x, ids, batch)
    return top + mx.log(total)


def _exponentials(x: mx.array, ids: mx.array, batch: int) -> tuple[mx.array, mx.array, mx.array]:
    """Return ``exp(x - top)``, each row's sum of it, and ``top``: its maximum, or 0 where that is infinite."""
    top = segment_extreme(x, ids, batch, largest=True, identity=-math.inf)
    top = mx.where(mx.isinf(top), 0, top)  # there is nothing to shift by, and inf - inf is NaN
    exps = weight(x - take(top, ids, axis=0))
    return exps, segment_sum(exps, ids, batch), top
