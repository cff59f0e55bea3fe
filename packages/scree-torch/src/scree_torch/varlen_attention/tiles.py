"""Attention of one tile: some queries to all the keys that any of them sees, as plain products.

A tile is ``n`` stretches of queries and of keys of equal lengths. Shapes are those of packed values with that axis
in front, ``(n, length, heads, head_dim)``; all is computed in the dtype given, which is float32 or wider.

Scores are written to memory that tiles share, one after another: on the CPU, fresh pages for each tile made the
gradient 1.7 times slower (128 queries, 512 keys, 8 heads of 64).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch


class Hidden(NamedTuple):
    """Keys that some queries don't see: a stretch of columns, and where in it."""

    columns: slice
    mask: torch.Tensor
    """Bool, broadcastable to ``(n, lq, columns)``."""


class Products:
    """Attention of tiles, one at a time: each overwrites the memory of the one before.

    Parameters
    ----------
    scale : float
        Factor of the scores.
    softcap : float or None
        Bound that the scores are squashed under.
    """

    def __init__(self, scale: float, softcap: float | None) -> None:
        self.scale, self.softcap = scale, softcap
        self._held: dict[str, torch.Tensor] = {}

    def attend(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        hidden: Sequence[Hidden],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output and the log-sum-exp of a tile.

        Parameters
        ----------
        q : torch.Tensor of shape (n, lq, heads, head_dim)
        k : torch.Tensor of shape (n, lk, kv_heads, head_dim)
        v : torch.Tensor of shape (n, lk, kv_heads, head_dim_v)
        hidden : sequence of Hidden
            Which keys a query doesn't see. It must see one: a softmax over nothing is NaN.

        Returns
        -------
        out : torch.Tensor of shape (n, lq, heads, head_dim_v)
        lse : torch.Tensor of shape (n, lq, heads)
        """
        shape, kv_heads = q.shape, k.shape[2]
        scores = self._scores(_fold(q, kv_heads), _fold(k, kv_heads))
        weights = self._softmax(scores, hidden, shape, kv_heads)
        # The largest weight is 1 / sum(exp(scores - top)): the sum without exponentiating again.
        lse = scores.amax(-1, keepdim=True) - weights.amax(-1, keepdim=True).log_()
        out = torch.bmm(weights, _fold(v, kv_heads))
        return _unfold(out, shape, kv_heads), _unfold(lse, shape, kv_heads)[..., 0]

    def attend_vjp(
        self,
        d_out: torch.Tensor,
        d_lse: torch.Tensor | None,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        hidden: Sequence[Hidden],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradients of ``attend`` with respect to q, k and v; the weights are computed again.

        Parameters
        ----------
        d_out : torch.Tensor of shape (n, lq, heads, head_dim_v)
        d_lse : torch.Tensor of shape (n, lq, heads), or None
        q, k, v, hidden
            As given to ``attend``.

        Notes
        -----
        Dao 2023 (FlashAttention-2), section 2.3.1, with the term of the lse: with ``dP = dO V^T``,
        ``dS = P * (dP - rowsum(P * dP) + dlse)``; a softcap multiplies it by ``1 - (S / softcap)^2``.
        """
        kv_heads = k.shape[2]
        q_shape, k_shape, v_shape = q.shape, k.shape, v.shape
        q, k, v, d_out = (_fold(x, kv_heads) for x in (q, k, v, d_out))
        scores = self._scores(q, k)
        slope = None
        if self.softcap is not None:
            slope = torch.div(scores, self.softcap, out=self._empty("slope", scores, *scores.shape))
            slope.square_().neg_().add_(1)
        weights = self._softmax(scores, hidden, q_shape, kv_heads)
        group = q_shape[2] // kv_heads
        d_v = _over_queries(weights, d_out, group)
        d_weights = torch.bmm(d_out, v.transpose(1, 2), out=scores)
        # Not PyTorch's own softmax backward: it rounds off three times as much.
        products = torch.mul(weights, d_weights, out=self._empty("products", scores, *scores.shape))
        mean = products.sum(-1, keepdim=True)
        if d_lse is not None:
            mean -= _fold(d_lse.unsqueeze(-1), kv_heads)
        d_scores = d_weights.sub_(mean).mul_(weights)
        if slope is not None:
            d_scores.mul_(slope)
        d_q, d_k = _product(d_scores, k, self.scale), _over_queries(d_scores, q, group, self.scale)
        return _unfold(d_q, q_shape, kv_heads), _unfold(d_k, k_shape, kv_heads), _unfold(d_v, v_shape, kv_heads)

    def _scores(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        scores = self._empty("scores", q, q.shape[0], q.shape[1], k.shape[1])
        _product(q, k.transpose(1, 2), self.scale, scores)
        if self.softcap is None:
            return scores
        return scores.div_(self.softcap).tanh_().mul_(self.softcap)

    def _softmax(
        self, scores: torch.Tensor, hidden: Sequence[Hidden], shape: torch.Size, kv_heads: int
    ) -> torch.Tensor:
        """Return the weights, after hiding keys in the scores themselves; ``shape`` is that of the queries."""
        n, length, heads = shape[:3]
        split = scores.view(n, kv_heads, heads // kv_heads, length, scores.shape[-1])
        for columns, mask in hidden:
            split[..., columns].masked_fill_(mask[:, None, None], -math.inf)
        return torch.softmax(scores, -1, out=self._empty("weights", scores, *scores.shape))

    def _empty(self, name: str, like: torch.Tensor, *shape: int) -> torch.Tensor:
        """Return what is held under a name as a tensor of some shape, of the dtype and device of another."""
        size, held = math.prod(shape), self._held.get(name)
        if held is None or held.shape[0] < size:
            held = self._held[name] = like.new_empty(size)
        return held[:size].view(shape)


def _over_queries(weights: torch.Tensor, x: torch.Tensor, group: int, scale: float = 1.0) -> torch.Tensor:
    """Return ``scale * weights^T x``, added up head by head: a single long sum rounds off more."""
    weights, x = (a.reshape(-1, a.shape[1] // group, a.shape[2]) for a in (weights, x))
    found = _product(weights.transpose(1, 2), x, scale)
    return found if group == 1 else found.unflatten(0, (-1, group)).sum(1)


def _product(a: torch.Tensor, b: torch.Tensor, scale: float, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``scale * a b``."""
    return torch.baddbmm(a.new_zeros(1, 1, 1), a, b, beta=0, alpha=scale, out=out)


def _fold(x: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Turn ``(n, length, heads, feature)`` into ``(n * kv_heads, group * length, feature)``.

    Queries of heads that share a key head come behind each other, so that one product serves them all.
    """
    n, length, heads, feature = x.shape
    grouped = x.reshape(n, length, kv_heads, heads // kv_heads, feature).permute(0, 2, 3, 1, 4)
    return grouped.reshape(n * kv_heads, heads // kv_heads * length, feature)


def _unfold(x: torch.Tensor, shape: torch.Size, kv_heads: int) -> torch.Tensor:
    """Undo ``_fold``, for something of the shape ``(n, length, heads, ...)``."""
    n, length, heads = shape[:3]
    grouped = x.reshape(n, kv_heads, heads // kv_heads, length, x.shape[-1]).permute(0, 3, 1, 2, 4)
    return grouped.reshape(n, length, heads, x.shape[-1])
