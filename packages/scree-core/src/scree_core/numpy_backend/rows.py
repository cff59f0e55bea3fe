"""Reductions along the ragged axis.

``ufunc.reduceat`` reduces every row in one call, but along the first of several axes it walks element by
element: 633 ms for 10,000 rows of mean length 100 and 64 features, where a loop of ``ufunc.reduce``
over rows takes 51 ms. So it serves where rows are small, and the loop where they are large.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from scree_core.layout import Layout

LOOP_FROM = 300
"""Elements per row, features included, from which the loop over rows is faster."""


def reduce(ufunc: np.ufunc, x: np.ndarray, layout: Layout[np.ndarray], empty: Any, dtype: Any = None) -> np.ndarray:
    """Reduce each row by a ufunc; empty rows give ``empty``."""
    offsets = layout.offsets
    out = np.full((layout.batch_size, *x.shape[1:]), empty, dtype or x.dtype)
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])
    if filled.size == 0 or out.size == 0:
        return out
    starts = offsets[filled]
    if x.ndim == 1 or x.size < LOOP_FROM * filled.size:
        out[filled] = ufunc.reduceat(x, starts, axis=0, dtype=dtype)
        return out
    for i, start, stop in zip(filled.tolist(), starts.tolist(), offsets[filled + 1].tolist(), strict=True):
        ufunc.reduce(x[start:stop], axis=0, dtype=dtype, out=out[i])
    return out


def reduce_sum(x: np.ndarray, layout: Layout[np.ndarray], empty: Any) -> np.ndarray:
    """Add up each row."""
    if x.dtype.kind == "f":
        # reduceat adds one by one, without the pairwise order that keeps np.sum exact: so in float64.
        return reduce(np.add, x, layout, empty, np.float64).astype(x.dtype)
    return reduce(np.add, x, layout, empty, np.sum(x[:0]).dtype)


def mean(x: np.ndarray, layout: Layout[np.ndarray], empty: Any) -> np.ndarray:
    """Average each row."""
    count = _per_row(layout.lengths, x)
    out = reduce(np.add, x, layout, 0, np.float64) / np.maximum(count, 1)
    return np.where(count == 0, empty, out).astype(x.dtype)


def logsumexp(x: np.ndarray, layout: Layout[np.ndarray], empty: Any) -> np.ndarray:
    """Add up each row in log space."""
    top = _finite(reduce(np.maximum, x, layout, 0))
    total = reduce(np.add, np.exp(x - _spread(top, layout)), layout, 1, np.float64)
    with np.errstate(divide="ignore"):  # a row of nothing but -inf gives log(0) = -inf, as it should
        out = np.log(total) + top
    return np.where(_per_row(layout.lengths, x) == 0, empty, out).astype(x.dtype)


def softmax(x: np.ndarray, layout: Layout[np.ndarray]) -> np.ndarray:
    """Normalise each row's exponentials; a row of nothing but -inf gives zeros."""
    top = _finite(reduce(np.maximum, x, layout, 0))
    out = x - _spread(top, layout)
    np.exp(out, out=out)
    total = reduce(np.add, out, layout, 1, np.float64)
    total[total == 0] = 1
    out /= _spread(total.astype(x.dtype), layout)
    return out


def cumsum(x: np.ndarray, layout: Layout[np.ndarray]) -> np.ndarray:
    """Add up each row step by step; row by row, so that none sees another's rounding, overflow or NaN."""
    out = np.empty(x.shape, np.cumsum(x[:0]).dtype)
    bounds = layout.offsets.tolist()
    for start, stop in itertools.pairwise(bounds):
        np.cumsum(x[start:stop], axis=0, out=out[start:stop])
    return out


def _finite(top: np.ndarray) -> np.ndarray:
    """Replace infinite maxima by 0: there is nothing to shift by, and inf - inf is NaN."""
    return np.where(np.isinf(top), np.zeros_like(top), top)


def _spread(per_row: np.ndarray, layout: Layout[np.ndarray]) -> np.ndarray:
    return np.repeat(per_row, layout.lengths, axis=0)


def _per_row(lengths: np.ndarray, x: np.ndarray) -> np.ndarray:
    return lengths.reshape(-1, *(1 for _ in x.shape[1:]))
