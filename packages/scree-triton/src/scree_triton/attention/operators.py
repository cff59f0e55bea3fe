"""The kernels as operators of PyTorch, for compilers, exporters and fake tensors.

``scree::triton_attention`` and ``scree::triton_attention_backward``; eager calls don't come here, since the registry
costs several times what a launch does. Programs exported with them need ``import scree_triton.attention`` where
they are run. They make their maps of tiles in each call.
"""

from __future__ import annotations

from typing import Any

import torch

from scree_torch.varlen_attention.options import Options
from scree_triton.attention import run
from scree_triton.attention.backward import backward
from scree_triton.attention.batch import Batch
from scree_triton.attention.told import planes

# Without k_offsets, keys lie as queries do.
_INPUTS = "Tensor q, Tensor k, Tensor v, Tensor q_offsets, Tensor? k_offsets, Tensor? sinks"
_OPTIONS = "SymInt? max_q, SymInt? max_k, bool causal, float scale, SymInt left, SymInt right, float? softcap"
library = torch.library.Library("scree", "FRAGMENT")
library.define(f"triton_attention({_INPUTS}, {_OPTIONS}, bool want_lse) -> (Tensor, Tensor, Tensor)")
library.define(
    "triton_attention_backward(Tensor d_out, Tensor? d_lse, Tensor out, Tensor lse, Tensor stats, "
    f"{_INPUTS}, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor)"
)


def _batch(q_offsets: torch.Tensor, k_offsets: torch.Tensor | None, max_q: int | None, max_k: int | None) -> Batch:
    return Batch(q_offsets, q_offsets if k_offsets is None else k_offsets, max_q, max_k)


def _forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor | None,
    sinks: torch.Tensor | None,
    max_q: int | None,
    max_k: int | None,
    causal: bool,
    scale: float,
    left: int,
    right: int,
    softcap: float | None,
    want_lse: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    options = Options(causal, scale, (left, right), softcap)
    if is_empty(q, k, v, q_offsets):
        out, lse, stats = _fake_forward(q, k, v, None, None, None, None, None, None, None, None, None, None, want_lse)
        return out.zero_(), lse.fill_(-torch.inf), stats.zero_()
    batch = _batch(q_offsets, k_offsets, max_q, max_k)
    plan = run.plan_of(q, k, v, batch, sinks, options, want_lse=want_lse)
    out, lse, stats = run.forward(q, k, v, sinks, batch, plan, learns=True)
    return out, q.new_empty(0, dtype=torch.float32) if lse is None else lse, stats  # pyrefly: ignore[bad-return]


def _backward(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    stats: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_offsets: torch.Tensor,
    k_offsets: torch.Tensor | None,
    sinks: torch.Tensor | None,
    max_q: int | None,
    max_k: int | None,
    causal: bool,
    scale: float,
    left: int,
    right: int,
    softcap: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    options = Options(causal, scale, (left, right), softcap)
    none = q.new_empty(0) if sinks is None else torch.zeros_like(sinks)
    if is_empty(q, k, v, q_offsets):
        return *(torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)), none  # pyrefly: ignore
    batch = _batch(q_offsets, k_offsets, max_q, max_k)
    found = run.Found(out, lse if lse.numel() else None, stats)
    plan = run.plan_of(q, k, v, batch, sinks, options, want_lse=found.lse is not None)
    d_lse = None if d_lse is None else d_lse.t()
    d_q, d_k, d_v, d_sinks = backward(d_out, d_lse, q, k, v, found, sinks, batch, plan)
    return d_q, d_k, d_v, none if d_sinks is None else d_sinks


def is_empty(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_offsets: torch.Tensor) -> bool:
    """Tell whether there is nothing to launch a kernel for: no row, no query, no key, or values without features."""
    return 0 in (q.shape[0], k.shape[0], q.shape[1], v.shape[2], q_offsets.shape[0] - 1)


def _fake_forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any) -> Any:
    total, heads, _ = q.shape
    out = q.new_empty((total, heads, v.shape[2]))
    lse = q.new_empty((heads, total) if rest[-1] else (0,), dtype=torch.float32)
    return out, lse, q.new_empty((planes(q.element_size()), heads, total), dtype=torch.float32)


def _fake_backward(d_out: Any, d_lse: Any, out: Any, lse: Any, stats: Any, *inputs: Any) -> Any:
    q, k, v, _, _, sinks, *_ = inputs
    gradients = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    return *gradients, q.new_empty(0) if sinks is None else torch.empty_like(sinks)


for _name, _run, _fake in (
    ("triton_attention", _forward, _fake_forward),
    ("triton_attention_backward", _backward, _fake_backward),
):
    library.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"scree::{_name}", _fake, lib=library)

triton_attention = torch.ops.scree.triton_attention.default
triton_attention_backward = torch.ops.scree.triton_attention_backward.default


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    q, k, v, q_offsets, k_offsets, sinks, *options, _ = inputs
    ctx.options = options
    ctx.save_for_backward(*output, q, k, v, q_offsets, k_offsets, sinks)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, d_out: torch.Tensor | None, d_lse: torch.Tensor | None, _: Any) -> Any:
    out, lse, stats, q, k, v, q_offsets, k_offsets, sinks = ctx.saved_tensors
    if d_out is None:
        d_out = torch.zeros_like(out)
    found = triton_attention_backward(d_out, d_lse, out, lse, stats, q, k, v, q_offsets, k_offsets, sinks, *ctx.options)
    d_q, d_k, d_v, d_sinks = found
    return d_q, d_k, d_v, None, None, None if sinks is None else d_sinks, *(None,) * 8


torch.library.register_autograd("scree::triton_attention", _differentiate, setup_context=_keep, lib=library)
