"""Attention as two operators of PyTorch, so that compilers and exporters take it as it is and don't look inside.

``scree::varlen_attention`` and ``scree::varlen_attention_backward`` choose the way by where the arrays are.
Programs exported with them need ``import scree_torch.backend`` where they are run.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from scree_torch.varlen_attention import by_rows, flash_cuda, padded
from scree_torch.varlen_attention.options import Options, wide_dtype

# Without k_offsets, keys lie as queries do. (torch.compile takes no tensor twice for a function with a gradient.)
_LAYOUT = "Tensor q_offsets, Tensor? k_offsets, SymInt? max_q, SymInt? max_k"
_OPTIONS = "bool causal, float scale, SymInt left, SymInt right, float? softcap"
library = torch.library.Library("scree", "FRAGMENT")
library.define(f"varlen_attention(Tensor q, Tensor k, Tensor v, {_LAYOUT}, {_OPTIONS}) -> (Tensor, Tensor)")
library.define(
    "varlen_attention_backward(Tensor d_out, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
    f"{_LAYOUT}, {_OPTIONS}) -> (Tensor, Tensor, Tensor)"
)


def _forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor | None,
    max_q: int | None,
    max_k: int | None,
    causal: bool,
    scale: float,
    left: int,
    right: int,
    softcap: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    options = Options(causal, scale, (left, right), softcap)
    layout = q_offsets, q_offsets if k_offsets is None else k_offsets
    if 0 in (q.shape[0], k.shape[0], q.shape[1], q_offsets.shape[0] - 1):
        out, lse = _empty_results(q, v)
        return out.zero_(), lse.fill_(-math.inf)
    if q.device.type == "cpu":
        return by_rows.forward(q, k, v, *layout, options)
    if flash_cuda.serves(q, v, options):
        return flash_cuda.forward(q, k, v, *layout, *_bounds(q, k, max_q, max_k), options)
    return padded.forward(q, k, v, *layout, *_measured(*layout, max_q, max_k), options)


def _backward(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor | None,
    max_q: int | None,
    max_k: int | None,
    causal: bool,
    scale: float,
    left: int,
    right: int,
    softcap: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    options = Options(causal, scale, (left, right), softcap)
    arrays, found = (d_out, d_lse, q, k, v), (out, lse)
    layout = q_offsets, q_offsets if k_offsets is None else k_offsets
    if 0 in (q.shape[0], k.shape[0], q.shape[1], q_offsets.shape[0] - 1):
        return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    if q.device.type == "cpu":
        return by_rows.backward(*arrays, *found, *layout, options)
    if flash_cuda.serves(q, v, options, lse_gradient=d_lse is not None):
        return flash_cuda.backward(*arrays, *found, *layout, *_bounds(q, k, max_q, max_k), options)
    return padded.backward(*arrays, *layout, *_measured(*layout, max_q, max_k), options)


def _empty_results(q: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return q.new_empty((*q.shape[:2], v.shape[2])), q.new_empty(q.shape[:2], dtype=wide_dtype(q))


def _bounds(q: torch.Tensor, k: torch.Tensor, max_q: int | None, max_k: int | None) -> tuple[int, int]:
    """Return bounds of the row lengths; the totals are some."""
    return q.shape[0] if max_q is None else max_q, k.shape[0] if max_k is None else max_k


def _measured(
    q_offsets: torch.Tensor, k_offsets: torch.Tensor, max_q: int | None, max_k: int | None
) -> tuple[int, int]:
    """Return bounds of the row lengths; measured, with a sync, where none is given."""
    if max_q is None:
        max_q = int(q_offsets.diff().max())
    if max_k is None:
        max_k = max_q if k_offsets is q_offsets else int(k_offsets.diff().max())
    return max_q, max_k


def _fake_forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *layout_and_options: Any) -> Any:
    return _empty_results(q, v)


def _fake_backward(d_out: Any, d_lse: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any) -> Any:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


for _name, _run, _fake in (
    ("varlen_attention", _forward, _fake_forward),
    ("varlen_attention_backward", _backward, _fake_backward),
):
    library.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"scree::{_name}", _fake, lib=library)

varlen_attention = torch.ops.scree.varlen_attention.default
varlen_attention_backward = torch.ops.scree.varlen_attention_backward.default
