"""Ways to write variable-length self-attention in plain NumPy, with nothing but what the task needs.

Each takes packed ``q, k, v`` of shape ``(total, heads, head_dim)`` and offsets, and returns the output in that shape.
"""

from __future__ import annotations

import itertools

import numpy as np

BLOCK = 128


def blocked(q: np.ndarray, k: np.ndarray, v: np.ndarray, offsets: np.ndarray, causal: bool) -> np.ndarray:
    """Multiply 128 queries at a time with the keys they can see, and exponentiate in place: the bare minimum."""
    out = np.empty_like(q)
    scale = q.dtype.type(q.shape[-1] ** -0.5)
    above = np.triu(np.ones((BLOCK, BLOCK), bool), 1)
    for start, stop in itertools.pairwise(offsets.tolist()):
        keys, values = k[start:stop].transpose(1, 2, 0), v[start:stop].transpose(1, 0, 2)
        for first in range(start, stop, BLOCK):
            last = min(first + BLOCK, stop)
            seen = last - start if causal else stop - start
            scores = np.matmul(q[first:last].transpose(1, 0, 2) * scale, keys[..., :seen])
            if causal:
                scores[..., first - start :][..., above[: last - first, : last - first]] = -np.inf
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            out[first:last] = np.matmul(scores, values[:, :seen]).transpose(1, 0, 2)
    return out


def by_row(q: np.ndarray, k: np.ndarray, v: np.ndarray, offsets: np.ndarray, causal: bool) -> np.ndarray:
    """Multiply whole rows, heads first."""
    out = np.empty_like(q)
    for start, stop in itertools.pairwise(offsets.tolist()):
        heads = (x[start:stop].transpose(1, 0, 2) for x in (q, k, v))
        out[start:stop] = _dense(*heads, _triangle(stop - start) if causal else None).transpose(1, 0, 2)
    return out


def padded(q: np.ndarray, k: np.ndarray, v: np.ndarray, offsets: np.ndarray, causal: bool) -> np.ndarray:
    """Pad every row to the longest, and mask."""
    lengths = np.diff(offsets)
    width = int(lengths.max())
    real = np.arange(width) < lengths[:, None]
    rectangles = []
    for x in (q, k, v):
        rectangle = np.zeros((*real.shape, *x.shape[1:]), x.dtype)
        rectangle[real] = x
        rectangles.append(rectangle.transpose(0, 2, 1, 3))
    hidden = ~real[:, None, None, :] | _triangle(width) if causal else ~real[:, None, None, :]
    return _dense(*rectangles, hidden).transpose(0, 2, 1, 3)[real]


def einsum(q: np.ndarray, k: np.ndarray, v: np.ndarray, offsets: np.ndarray, causal: bool) -> np.ndarray:
    """Write the formula down as it is, row by row."""
    out = np.empty_like(q)
    scale = q.dtype.type(q.shape[-1] ** -0.5)
    for start, stop in itertools.pairwise(offsets.tolist()):
        scores = np.einsum("qhd,khd->hqk", q[start:stop], k[start:stop]) * scale
        if causal:
            scores = np.where(_triangle(stop - start), -np.inf, scores).astype(q.dtype)
        out[start:stop] = np.einsum("hqk,khd->qhd", _softmax(scores), v[start:stop])
    return out


def _dense(q: np.ndarray, k: np.ndarray, v: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    scores = np.matmul(q, k.swapaxes(-1, -2)) * q.dtype.type(q.shape[-1] ** -0.5)
    if hidden is not None:
        np.copyto(scores, -np.inf, where=hidden)
    return np.matmul(_softmax(scores), v)


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _triangle(length: int) -> np.ndarray:
    return np.triu(np.ones((length, length), bool), 1)


COMPETITORS = {
    "blocked np.matmul": blocked,
    "np.matmul by row": by_row,
    "padded and masked": padded,
    "np.einsum": einsum,
}
