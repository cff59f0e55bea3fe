"""scree's kernels of norms against the bandwidth of a copy, and of softmax and rope against scree's PyTorch backend.

    python benchmarks/triton_norms.py --json

A norm has to read x and write y, and backward to read x and dy and write dx: 1 and 2.5 copies of x, at the rate at
which ``y.copy_(x)`` reads and writes. PyTorch's own norms, and those that its compiler makes, are timed beside them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from competitors.flash_attention import BACKEND, DEVICE, Run, captured, error
from harness import Row, at_most, report
from on_gpu import accelerator, options
from torch.nn import functional
from triton_attention import median_ms, until
from workloads import NORMS_GPU, ROPE_GPU, SOFTMAX_GPU, Layout

import scree

FORWARD, STEP = 0.90, 0.80
"""Shares of the copy's bandwidth to reach."""
NO_WORSE, CLOSE = 1.1, {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-2}
"""Errors: of scree's outputs, as a multiple of PyTorch's; of any result, relative to it."""

Op = Callable[..., torch.Tensor]


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Draw an array, the same each time."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=DEVICE).to(dtype)


def stepping(op: Op, inputs: tuple[torch.Tensor, ...], d_out: torch.Tensor) -> Run:
    """Return forward and backward of an op."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    return lambda: torch.autograd.grad(op(*leaves), leaves, d_out)


def runs_of(op: Op, inputs: tuple[torch.Tensor, ...], d_out: torch.Tensor) -> dict[str, Run]:
    """Return what is timed of an op."""
    return {"forward": lambda: op(*inputs), "forward and backward": stepping(op, inputs, d_out)}


def errors(run: Run, wanted: Any) -> list[float]:
    """Return how far off each result of a call is."""
    got = run()
    if isinstance(got, torch.Tensor):
        got, wanted = (got,), (wanted,)
    return [error(*pair) for pair in zip(got, wanted, strict=True)]


def refuse_unless(is_close: bool, name: str, found: list[float]) -> None:
    """Stop where a result is wrong."""
    if not is_close:
        raise SystemExit(f"{name} is off by {', '.join(f'{off:.1e}' for off in found)}: no figures")


# ---------------------------------------------------------------------- norms


def norms(workload: Layout) -> dict[str, tuple[tuple[torch.Tensor, ...], dict[str, Op]]]:
    """Return the inputs of each norm and its ways, PyTorch's own first."""
    features, dtype = workload.features, getattr(torch, workload.dtype)
    x = normal(sum(workload.lengths), features, dtype=dtype)
    weight, bias = (normal(features, dtype=dtype, seed=seed) for seed in (1, 2))
    layout = scree.from_lengths(x, workload.lengths).layout

    def rmsnorm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return scree.varlen_rmsnorm(scree.Array.trusted(x, layout), weight, eps=1e-6, backend=BACKEND).values

    def layernorm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return scree.varlen_layernorm(scree.Array.trusted(x, layout), weight, bias, eps=1e-5, backend=BACKEND).values

    def torch_rmsnorm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, (features,), weight, 1e-6)

    def torch_layernorm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, (features,), weight, bias, 1e-5)

    def compiled(op: Op) -> Op:
        return torch.compile(op, dynamic=False)

    rms = {"torch": torch_rmsnorm, "torch.compile": compiled(torch_rmsnorm), "scree": rmsnorm}
    layer = {"torch": torch_layernorm, "torch.compile": compiled(torch_layernorm), "scree": layernorm}
    return {"rmsnorm": ((x, weight), rms), "layernorm": ((x, weight, bias), layer)}


def compare_norms(workload: Layout, rounds: int) -> dict[str, list[Row]]:
    """Time each norm next to a copy, and refuse to if scree is wrong; peers that fail or are wrong are left out."""
    tables = {}
    torch.compiler.reset()
    for op, (inputs, ways) in norms(workload).items():
        x, d_out = inputs[0], normal(*inputs[0].shape, dtype=inputs[0].dtype, seed=3)
        exact = runs_of(ways["torch"], tuple(t.float() for t in inputs), d_out.float())
        every = {name: runs_of(way, inputs, d_out) for name, way in ways.items()}
        for kind, copies, goal in (("forward", 1.0, FORWARD), ("forward and backward", 2.5, STEP)):
            title = f"{op}, {kind}: {workload}"
            runs = {name: run[kind] for name, run in every.items()}
            # A step from Python is the host's time as much as the device's.
            runs |= {f"{name}, graph": captured(runs[name]) for name in ("torch", "scree")}
            keep_right(runs, exact[kind](), CLOSE[x.dtype], title)
            ms = median_ms(runs | {"copy": functools.partial(torch.empty_like(x).copy_, x)}, rounds)
            title += f"; a copy at {2 * x.nbytes / ms['copy'] / 1e6:,.0f} GB/s"
            tables[title] = [against_copy(name, ms, copies, goal) for name in runs]
    return tables


def keep_right(runs: dict[str, Run], wanted: Any, close: float, title: str) -> None:
    """Stop where scree is wrong, or its output is more so than PyTorch's; leave out peers that fail or are wrong."""
    found: dict[str, list[float]] = {}
    for name in list(runs):
        most = close
        if name.startswith("scree") and "torch" in found and isinstance(wanted, torch.Tensor):
            most = min(close, NO_WORSE * found["torch"][0])
        try:
            found[name] = errors(runs[name], wanted)
            refuse_unless(all(off <= most for off in found[name]), f"{name}, {title}", found[name])
        except (Exception, SystemExit) as failure:
            if name.startswith("scree"):
                raise
            print(f"left out: {str(failure)[:200]}")
            found.pop(name, None)
            del runs[name]


def against_copy(name: str, ms: dict[str, float], copies: float, goal: float) -> Row:
    """Return a norm's time next to that of so many copies, as a share of their bandwidth."""
    share = copies * ms["copy"] / ms[name]
    met = "met" if share >= goal else "MISSED"
    verdict = f", goal >= {goal:.0%}: {met}" if name.startswith("scree") else ""
    return Row(name, ms[name], f"{copies:g} copies", copies * ms["copy"], f"{share:.0%} of bandwidth{verdict}")


# ---------------------------------------------------------------------- softmax and rope


def others() -> dict[str, tuple[torch.Tensor, Callable[[str], Op]]]:
    """Return the values of softmax and of rope, and a function from a backend to the op on it."""
    values = normal(sum(SOFTMAX_GPU.lengths), SOFTMAX_GPU.features)
    layout = scree.from_lengths(values, SOFTMAX_GPU.lengths).layout

    def softmax(backend: str) -> Op:
        return lambda x: scree.varlen_softmax(scree.Array.trusted(x, layout), backend=backend).values

    queries = normal(ROPE_GPU.tokens, ROPE_GPU.heads, ROPE_GPU.head_dim, dtype=getattr(torch, ROPE_GPU.dtype))
    rows = scree.from_lengths(queries, ROPE_GPU.lengths).layout
    half = ROPE_GPU.head_dim // 2
    steps = torch.arange(max(ROPE_GPU.lengths), device=DEVICE)[:, None]
    angles = steps * 10_000.0 ** (-torch.arange(half, device=DEVICE) / half)
    cos, sin = angles.cos(), angles.sin()

    def rope(backend: str) -> Op:
        return lambda x: scree.varlen_rope(scree.Array.trusted(x, rows), cos, sin, backend=backend).values

    return {f"softmax: {SOFTMAX_GPU}": (values, softmax), f"rope: {ROPE_GPU}": (queries, rope)}


def compare_backends(rounds: int) -> dict[str, list[Row]]:
    """Time the kernels of softmax and rope next to scree's PyTorch backend, and refuse to if they disagree."""
    tables = {}
    for title, (x, by) in others().items():
        d_out = normal(*x.shape, dtype=x.dtype, seed=3)
        ours, theirs = (runs_of(by(backend), (x,), d_out) for backend in (BACKEND, "torch"))
        table = tables[title] = []
        for kind in ours:
            found = errors(ours[kind], theirs[kind]())
            refuse_unless(all(off <= CLOSE[x.dtype] for off in found), f"{title}, {kind}", found)
            ms = median_ms({"scree": ours[kind], "torch": theirs[kind]}, rounds)
            goal = at_most(1, ms["scree"] / ms["torch"])
            table.append(Row(f"scree, {kind}", ms["scree"], "scree, backend torch", ms["torch"], goal))
    return tables


def main() -> None:
    """Measure everything, or what fits into the time."""
    chosen = options(__doc__, rounds=3, seconds=420)
    tables: dict[str, list[Row]] = {}
    with until(chosen.seconds):
        tables |= compare_backends(chosen.rounds)
        for name, workload in NORMS_GPU.items():
            tables |= compare_norms(workload, chosen.rounds)
            print(f"{name} is done", flush=True)
    report("triton-norms", tables, write=chosen.json, library="torch", accelerator=accelerator())


if __name__ == "__main__":
    main()
