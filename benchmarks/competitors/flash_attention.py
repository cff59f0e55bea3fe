"""scree and the FlashAttentions on one packed batch: how each is called, and whether it is right.

FlashAttention-2 is PyTorch's own; 3 (``fa3_fwd_interface``) and 4 (``flash_attn.cute``) take part where they are
installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from workloads import Attention

import scree

DEVICE, BACKEND = "cuda", "triton"
PEERS = {"fa3": "fa3_fwd_interface", "fa4": "flash_attn.cute"}
NO_WORSE, CLOSE = 1.1, 1e-2
"""Errors: of scree, as a multiple of FlashAttention-2's; of anyone, relative to the result."""
REFERENCE_TOKENS = 40_000
"""Up to which a reference is computed; beyond them FlashAttention-2 is it."""

Run = Callable[[], Any]


class Refused(Exception):
    """A result is wrong or missing: no figures."""


class Inputs(NamedTuple):
    """A batch on the device."""

    qkv: tuple[torch.Tensor, ...]
    d_out: torch.Tensor
    offsets: torch.Tensor
    longest: int


def draw(workload: Attention) -> Inputs:
    """Draw a batch, the same each time."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    heads, kv_heads = workload.heads, workload.kv_heads or workload.heads
    q, k, v, d_out = (
        torch.randn(workload.tokens, h, workload.head_dim, generator=generator, device=DEVICE).to(
            getattr(torch, workload.dtype)
        )
        for h in (heads, kv_heads, kv_heads, heads)
    )
    offsets = torch.tensor((0, *workload.lengths)).cumsum(0).to(DEVICE, torch.int32)
    return Inputs((q, k, v), d_out, offsets, max(workload.lengths))


# ---------------------------------------------------------------------- candidates


def installed() -> dict[str, Callable[..., Any]]:
    """Return the peers' functions; print why one doesn't take part."""
    found: dict[str, Callable[..., Any]] = {"fa2": torch.ops.aten._flash_attention_forward}
    for name, module in PEERS.items():
        try:
            found[name] = importlib.import_module(module).flash_attn_varlen_func
        except Exception as error:  # a library that is there may still not load
            print(f"{name} doesn't take part: {reason(error)}")
    return found


def ways(workload: Attention, x: Inputs, functions: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Run]]:
    """Return each way by its name: a function from q, k and v to the call that attends."""
    causal, (rows, longest) = workload.causal, (x.offsets, x.longest)

    def attend(*arrays: Any) -> torch.Tensor:
        return scree.varlen_attention(*arrays, causal=causal, backend=BACKEND).values

    def shared(*qkv: torch.Tensor) -> Run:
        first = scree.Array(qkv[0], rows, max_length=longest)
        arrays = first, *(first.with_values(values) for values in qkv[1:])
        return lambda: attend(*arrays)

    def new(*qkv: torch.Tensor) -> Run:
        return lambda: attend(*(scree.Array(values, rows, max_length=longest) for values in qkv))

    def fa2(*qkv: torch.Tensor) -> Run:
        return lambda: functions["fa2"](*qkv, rows, rows, longest, longest, 0.0, causal, False)[0]

    def fa3(*qkv: torch.Tensor) -> Run:
        halves = [values.bfloat16() for values in qkv]  # it knows no other dtype
        return lambda: _first(functions["fa3"](*halves, rows, rows, longest, longest, causal=causal))

    def fa4(*qkv: torch.Tensor) -> Run:
        where = {"cu_seqlens_q": rows, "cu_seqlens_k": rows, "max_seqlen_q": longest, "max_seqlen_k": longest}
        return lambda: _first(functions["fa4"](*qkv, **where, causal=causal))

    peers = {name: way for name, way in (("fa2", fa2), ("fa3", fa3), ("fa4", fa4)) if name in functions}
    return peers | {"scree": shared, "scree, new Arrays": new}


def _first(found: Any) -> torch.Tensor:
    return found[0] if isinstance(found, tuple) else found


def stepping(way: Callable[..., Run], x: Inputs) -> Run:
    """Return a training step: forward, and the gradients of q, k and v."""
    leaves = [values.clone().requires_grad_() for values in x.qkv]
    run = way(*leaves)
    return lambda: torch.autograd.grad(run(), leaves, x.d_out)


def captured(run: Run) -> Run:
    """Return the replay of a call as a CUDA graph, which writes where it wrote before."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()

    def replay() -> Any:
        graph.replay()
        return found

    return replay


# ---------------------------------------------------------------------- checks


def reference(workload: Attention, qkv: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Attend row by row in float64; the result is rounded to float32."""
    group = workload.heads // (workload.kv_heads or workload.heads)
    outs = []
    for row in zip(*(values.split(workload.lengths) for values in qkv), strict=True):
        q, k, v = (values.double().transpose(0, 1) for values in row)
        k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
        scores = q @ k.transpose(1, 2) * workload.head_dim**-0.5
        if workload.causal:
            scores.masked_fill_(torch.ones(scores.shape[1:], dtype=torch.bool, device=DEVICE).triu(1), -torch.inf)
        outs.append((scores.softmax(-1) @ v).transpose(0, 1).float())
    return torch.cat(outs)


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return how far off a result is, relative to its size."""
    wide = wanted.float()
    return float((got.float() - wide).norm() / wide.norm())


def check(runs: dict[str, Run], wanted: tuple[torch.Tensor, ...], exact: bool, skipped: dict[str, str]) -> list[float]:
    """Run each candidate; drop a peer that fails or is wrong, and refuse to go on without scree or FlashAttention-2.

    Parameters
    ----------
    runs : dict
        Candidates by name, FlashAttention-2 first; those that are dropped leave it.
    wanted : tuple of tensors
        What they shall return.
    exact : bool
        Whether that is exact: then scree may be off by what FlashAttention-2 is, and a tenth of it.
    skipped : dict
        Takes the reasons.

    Returns
    -------
    list of float
        The largest error of FlashAttention-2 and of scree.
    """
    errors = {}
    for name in list(runs):
        try:
            got = runs[name]()
        except Exception as failure:
            if name in ("fa2", "scree", "scree, new Arrays"):
                raise
            skipped[name] = reason(failure)
            del runs[name]
            continue
        pairs = zip(got if isinstance(got, tuple) else (got,), wanted, strict=True)
        found = [error(*pair) for pair in pairs]
        most = NO_WORSE * errors["fa2"] if exact and name.startswith("scree") else CLOSE
        if not all(off <= most for off in found):  # NaN isn't either
            why = f"off by {', '.join(f'{off:.1e}' for off in found)}, allowed {most:.1e}"
            if name.startswith(("scree", "fa2")):
                raise Refused(f"{name}: {why}")
            skipped[name] = why
            del runs[name]
        errors[name] = max(found)
    return [errors["fa2"], errors["scree"]]


def reason(failure: BaseException) -> str:
    """Return an exception in a line."""
    lines = str(failure).strip().splitlines() or [""]
    return f"{type(failure).__name__}: {lines[0][:160]}"
