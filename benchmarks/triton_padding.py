"""Padding and its inverse as kernels against a copy of the same bytes, scree's PyTorch backend and PyTorch by hand.

    python benchmarks/triton_padding.py --json

Padding has to read each element and write each cell; dropping padding has to read and write each element. Both are
given as a share of the rate at which ``y.copy_(x)`` reads and writes. Packing is ``torch.cat`` on every backend.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from competitors.flash_attention import BACKEND, DEVICE, Run
from harness import Row, at_most, report
from on_gpu import accelerator, options
from torch.nn.utils import rnn
from triton_attention import median_ms, until
from workloads import PADDING_GPU, Layout

import scree

Runs = dict[str, Run]


def stepping(op: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Run:
    """Return forward and backward of an op."""
    leaf = x.clone().requires_grad_()
    d_out = torch.ones_like(op(x)).cumsum(0).remainder(8)  # the same for all ways
    return lambda: torch.autograd.grad(op(leaf), leaf, d_out)


def ways(workload: Layout) -> dict[str, tuple[Runs, int]]:
    """Return, for each op, its candidates and the bytes that it has to move."""
    lengths = workload.lengths
    generator = torch.Generator(DEVICE).manual_seed(0)
    shape, dtype = (sum(lengths), workload.features), getattr(torch, workload.dtype)
    x = torch.randn(shape, generator=generator, device=DEVICE).to(dtype)
    arr = scree.from_lengths(x, lengths)
    rectangle, mask = scree.to_padded(arr, backend="torch")
    rows = scree.unpack(arr)

    def spread(values: torch.Tensor, backend: str) -> torch.Tensor:
        return scree.to_padded(arr.with_values(values), backend=backend)[0]

    def collect(padded: torch.Tensor, backend: str, capacity: int | None = None) -> torch.Tensor:
        return scree.from_padded(padded, mask, capacity=capacity, backend=backend).values

    def by_sequence(values: torch.Tensor) -> torch.Tensor:
        return rnn.pad_sequence(torch.split(values, lengths), batch_first=True)

    backends = {"scree": BACKEND, "scree, backend torch": "torch"}
    spreads = {name: functools.partial(spread, backend=backend) for name, backend in backends.items()}
    collects = {name: functools.partial(collect, backend=backend) for name, backend in backends.items()}
    roomy = {name: functools.partial(collect, backend=b, capacity=len(x)) for name, b in backends.items()}
    by_hand = {"pad_sequence": by_sequence}  # forwards alone: each row's gradient is as large as all rows
    moved, padded = 2 * x.nbytes, x.nbytes + rectangle.nbytes
    forward = {
        "to_padded": (spreads | by_hand, x, padded),
        "from_padded": (collects | {"padded[mask]": lambda padded: padded[mask]}, rectangle, moved),
        "from_padded, capacity": (roomy, rectangle, moved),
    }
    found = {op: ({k: functools.partial(f, y) for k, f in fs.items()}, size) for op, (fs, y, size) in forward.items()}
    for op, (functions, y, size) in forward.items():
        if op != "from_padded":
            steps = {name: stepping(f, y) for name, f in functions.items() if name in backends}
            found[f"{op}, forward and backward"] = steps, size + moved + padded - size
    found["pack"] = {"scree": lambda: scree.pack(rows).values, "torch.cat": lambda: torch.cat(rows)}, moved
    return found


def compare(workload: Layout, rounds: int) -> dict[str, list[Row]]:
    """Time every way next to a copy, and refuse to if results differ."""
    tables = {}
    source = torch.empty(2**28, dtype=torch.uint8, device=DEVICE)
    copy = functools.partial(torch.empty_like(source).copy_, source)
    for op, (runs, size) in ways(workload).items():
        check(op, runs)
        ms = median_ms(runs | {"copy": copy}, rounds)
        rate = 2 * source.nbytes / ms["copy"]
        table = tables[f"{op}: {workload}; a copy at {rate / 1e6:,.0f} GB/s"] = []
        for name in runs:
            other = next(other for other in ("scree, backend torch", "torch.cat") if other in ms)
            share = f"{size / ms[name] / rate:.0%} of a copy's rate"
            goal = f", {at_most(1, ms[name] / ms[other])}" if name == "scree" and op != "pack" else ""
            table.append(Row(name, ms[name], other, ms[other], share + goal))
    return tables


def check(op: str, runs: Runs) -> None:
    """Stop unless all ways give the same."""

    def numbers(run: Run) -> np.ndarray:
        got: Any = run()
        return (got if isinstance(got, torch.Tensor) else got[0]).float().cpu().numpy()

    first, *others = runs
    for name in others:
        if not np.array_equal(numbers(runs[first]), numbers(runs[name])):
            raise SystemExit(f"{op}: {first} and {name} differ: no figures")


def main() -> None:
    """Measure everything, or what fits into the time."""
    chosen = options(__doc__, rounds=3, seconds=300)
    tables: dict[str, list[Row]] = {}
    with until(chosen.seconds):
        for workload in PADDING_GPU.values():
            tables |= compare(workload, chosen.rounds)
    report("triton-padding", tables, write=chosen.json, library="torch", accelerator=accelerator())


if __name__ == "__main__":
    main()
