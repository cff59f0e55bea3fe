"""One library's arrays: scree against the ways to write it in that library, in time and in memory.

    python benchmarks/backends.py torch

Attention forwards and as a training step, packing and padding, and the peak memory of a training step. The goals:
as much faster than padding as padding holds slots that aren't elements, no slower than the best of the others, and
1.5 times the one library call that moves the same bytes.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from competitors.candidate import Candidate
from competitors.numpy_attention import COMPETITORS
from harness import Row, at_most, medians, report
from workloads import ATTENTION, LAYOUT, Attention, Layout

LIBRARIES = ("torch", "jax", "mlx")
MOVES = 1.5
"""Goal of packing and padding, against one call that moves the same bytes."""


def compare(library: str, workload: Attention, rounds: int) -> dict[str, list[Row]]:
    """Time scree and every peer on one batch, forwards and with gradients, and refuse to if they disagree."""
    candidates = importlib.import_module(f"competitors.{library}_attention").candidates(workload)
    check(candidates, workload)
    tables = {}
    for title, call in (("forward", "forward"), ("forward and backward", "step")):
        rows = []
        for name in list(candidates)[1:]:  # in pairs: a slow one leaves cold caches to whoever comes next
            pair = {key: getattr(candidates[key], call) for key in ("scree", name)}
            ms = medians(pair, rounds)
            rows.append(
                Row("scree", ms["scree"], name, ms[name], at_most(goal(name, workload), ms["scree"] / ms[name]))
            )
        tables[title] = rows
    return tables


def goal(name: str, workload: Attention) -> float:
    """Return the ratio to reach: elements per slot against what pads, 1 against what doesn't."""
    return workload.filled if name.startswith("padded") else 1.0


def check(candidates: dict[str, Candidate], workload: Attention) -> None:
    """Fail unless every output is that of float64 to within 64 roundings, and every gradient the same as scree's."""
    exact = COMPETITORS["np.matmul by row"](
        *(x.astype(np.float64) for x in workload.qkv()), np.cumsum((0, *workload.lengths)), workload.causal
    )
    gradients = candidates["scree"].step()
    for name, candidate in candidates.items():
        pairs = [(candidate.forward(), exact), *zip(candidate.step(), gradients, strict=True)]
        for got, wanted in pairs:
            numbers = [np.asarray(candidate.to_numpy(x) if x is not exact else x, np.float64) for x in (got, wanted)]
            error, largest = np.abs(numbers[0] - numbers[1]).max(), np.abs(numbers[1]).max()
            if not error <= 64 * np.finfo(np.float32).eps * largest:
                raise SystemExit(f"{name} is off by {error:.1e} of {largest:.1e}: no figures")


def compare_moves(library: str, workload: Layout, rounds: int) -> list[Row]:
    """Time packing and padding next to the one library call that moves the same bytes."""
    rows = []
    for name, (ours, theirs, their_name) in (
        importlib.import_module(f"competitors.{library}_layout").candidates(workload).items()
    ):
        ms = medians({"scree": ours, "library": theirs}, rounds)
        rows.append(Row(name, ms["scree"], their_name, ms["library"], at_most(MOVES, ms["scree"] / ms["library"])))
    return rows


def compare_peaks(library: str, name: str, workload: Attention) -> list[Row]:
    """Measure the memory that a training step takes at its peak, each candidate in a process of its own."""
    names = list(importlib.import_module(f"competitors.{library}_attention").candidates(workload))
    peaks = {candidate: _peak(library, name, candidate) for candidate in names}
    return [
        Row("scree", peaks["scree"], other, peaks[other], at_most(1, peaks["scree"] / peaks[other]), "MiB")
        for other in names[1:]
    ]


def _peak(*arguments: str) -> float:
    # Every large block comes from the system and goes back to it, so that the process shows what is in use.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, str(Path(__file__).with_name("peak.py")), *arguments]
    return float(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


def options() -> Any:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--rounds", type=int, default=11, help="runs of each candidate (default 11)")
    parser.add_argument("--json", action="store_true", help="also write the figures to benchmarks/results/")
    parser.add_argument("--workload", choices=list(ATTENTION), nargs="+", default=list(ATTENTION), help="default: all")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = options()
    tables: dict[str, list[Row]] = {}
    for name in chosen.workload:
        workload = ATTENTION[name]
        for title, rows in compare(chosen.library, workload, chosen.rounds).items():
            tables[f"{name}, {title}: {workload}"] = rows
        tables[f"{name}, peak memory of a training step: {workload}"] = compare_peaks(chosen.library, name, workload)
    tables[f"layout_1k: {LAYOUT['layout_1k']}"] = compare_moves(chosen.library, LAYOUT["layout_1k"], chosen.rounds)
    report(f"backends-{chosen.library}", tables, write=chosen.json, library=chosen.library)
