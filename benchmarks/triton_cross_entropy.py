"""Cross-entropy as kernels against the bandwidth of a copy, scree's PyTorch backend, and PyTorch's own on wide logits.

    python benchmarks/triton_cross_entropy.py --json

The loss is the mean over all labels, each compared with the logits of the element before it in its row. PyTorch's own
is called as transformers does, on labels that are shifted already and logits that are cast to float32, and is compiled
too. Forward has to read the logits; a step to read them twice and to write their gradient. Memory is the peak of one
step above what was held before it, the gradient included. Logits require a gradient in all that is timed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from competitors.flash_attention import BACKEND, DEVICE, Run, error
from harness import Row, at_most, report
from on_gpu import accelerator, options
from torch.nn import functional
from triton_attention import median_ms, until
from workloads import LOSSES_GPU, Layout

import scree

OURS, OTHER = "scree", "scree, backend torch"
PASSES = {"forward": 1, "forward and backward": 3}
"""How often the logits' bytes have to be moved."""
CLOSE = {"bfloat16": 1e-2, "float32": 1e-5}
"""Errors of gradients, relative to them; losses are float32 for all."""
CHECKED = 64
"""Elements whose gradients are compared."""

Loss = Callable[[torch.Tensor], torch.Tensor]


def ways(workload: Layout) -> tuple[torch.Tensor, dict[str, Loss]]:
    """Return logits that require a gradient, and each way to their loss."""
    lengths, vocab = workload.lengths, workload.features
    generator = torch.Generator(DEVICE).manual_seed(0)
    logits = torch.empty((sum(lengths), vocab), dtype=getattr(torch, workload.dtype), device=DEVICE)
    logits.normal_(generator=generator).requires_grad_()
    labels = torch.randint(0, vocab, (sum(lengths),), generator=generator, device=DEVICE)
    layout = scree.from_lengths(labels, lengths).layout
    shifted = labels.roll(-1).index_fill(0, layout.offsets[1:].long() - 1, -100)

    def ours(x: torch.Tensor, backend: str) -> torch.Tensor:
        return scree.varlen_cross_entropy(scree.Array.trusted(x, layout), labels, backend=backend)

    def theirs(x: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(x.float(), shifted)

    return logits, {
        OURS: functools.partial(ours, backend=BACKEND),
        OTHER: functools.partial(ours, backend="torch"),
        "torch": theirs,
        "torch.compile": torch.compile(theirs, dynamic=False),
    }


def stepping(loss: Loss, logits: torch.Tensor) -> Run:
    """Return forward and backward of a way."""
    return lambda: torch.autograd.grad(loss(logits), logits)


def check(workload: Layout, logits: torch.Tensor, losses: dict[str, Loss]) -> None:
    """Stop unless all ways give the same loss and gradient."""
    places = torch.linspace(0, len(logits) - 1, CHECKED, device=DEVICE).long()
    wanted: tuple[torch.Tensor, torch.Tensor] | None = None
    for name in ("torch", *losses):
        loss = losses[name](logits)
        found = loss.detach(), torch.autograd.grad(loss, logits)[0][places]
        wanted = wanted or found
        off = [error(*pair) for pair in zip(found, wanted, strict=True)]
        if not (off[0] <= CLOSE["float32"] and off[1] <= CLOSE[workload.dtype]):
            raise SystemExit(f"{name}, {workload}: off by {off[0]:.1e} and {off[1]:.1e}: no figures")


def peak(run: Run) -> float:
    """Return how many MiB a call takes at its peak, above what is held before it."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = run()
    most = torch.cuda.max_memory_allocated() - before
    del result
    return most / 2**20


def compare(workload: Layout, rounds: int) -> dict[str, list[Row]]:
    """Time every way next to a copy, and refuse to if results differ."""
    torch.compiler.reset()
    torch.cuda.empty_cache()
    logits, losses = ways(workload)
    check(workload, logits, losses)
    source = torch.empty(2**29, dtype=torch.uint8, device=DEVICE)
    copy = functools.partial(torch.empty_like(source).copy_, source)
    tables = {}
    for kind, passes in PASSES.items():
        runs = {
            name: functools.partial(loss, logits) if kind == "forward" else stepping(loss, logits)
            for name, loss in losses.items()
        }
        ms = median_ms(runs | {"copy": copy}, rounds)
        rate = 2 * source.nbytes / ms["copy"]
        rows = []
        for name in runs:
            share = f"{passes * logits.nbytes / ms[name] / rate:.0%} of a copy's rate"
            goal = f", {at_most(1, ms[name] / ms[OTHER])}" if name == OURS else ""
            rows.append(Row(name, ms[name], OTHER, ms[OTHER], share + goal))
        tables[f"{kind}: {workload}; a copy at {rate / 1e6:,.0f} GB/s"] = rows
    held = {name: peak(stepping(loss, logits)) for name, loss in losses.items()}
    own = f"memory of a step: {workload}; the logits {logits.nbytes / 2**20:,.0f} MiB"
    tables[own] = [Row(name, held[name], OTHER, held[OTHER], unit="MiB") for name in held]
    return tables


def main() -> None:
    """Measure everything, or what fits into the time."""
    chosen = options(__doc__, rounds=3, seconds=140)
    tables: dict[str, list[Row]] = {}
    with until(chosen.seconds):
        for workload in LOSSES_GPU.values():
            tables |= compare(workload, chosen.rounds)
    report("triton-cross-entropy", tables, write=chosen.json, library="torch", accelerator=accelerator())


if __name__ == "__main__":
    main()
