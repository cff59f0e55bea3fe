"""Attention in NumPy: scree against the ways to write it by hand, all checked to agree before any is timed.

The goal is 1.3 times the bare blocked products at most: that one knows no windows, caps, sinks, grouped
heads, other key lengths or log-sum-exp.
"""

from __future__ import annotations

import numpy as np
from competitors.numpy_attention import COMPETITORS
from harness import Row, arguments, at_most, medians, report
from workloads import ATTENTION, Attention

import scree

GOALS = {"blocked np.matmul": 1.3}


def compare(workload: Attention, rounds: int) -> list[Row]:
    """Time scree and every competitor on one batch, and refuse to if they disagree."""
    q, k, v = (scree.from_lengths(x, workload.lengths) for x in workload.qkv())

    def ours() -> np.ndarray:
        return scree.varlen_attention(q, k, v, causal=workload.causal).values

    candidates = {
        name: lambda run=run: run(q.values, k.values, v.values, q.offsets, workload.causal)
        for name, run in COMPETITORS.items()
    }
    check(ours, candidates, workload)
    table = []
    for name, run in candidates.items():  # in pairs: a slow one leaves cold caches to whoever comes next
        ms = medians({"scree": ours, name: run}, rounds)
        goal = at_most(GOALS[name], ms["scree"] / ms[name]) if name in GOALS else ""
        table.append(Row("scree", ms["scree"], name, ms[name], goal))
    return table


def check(ours, candidates, workload: Attention) -> None:
    """Fail unless every result is that of float64 to within 16 roundings per product."""
    exact = COMPETITORS["np.matmul by row"](
        *(x.astype(np.float64) for x in workload.qkv()), np.cumsum((0, *workload.lengths)), workload.causal
    )
    allowed = 16 * np.finfo(workload.dtype).eps * np.abs(exact).max()
    for name, run in {"scree": ours, **candidates}.items():
        error = np.abs(run() - exact).max()
        if not error <= allowed:
            raise SystemExit(f"{name} is off by {error:.1e}, {allowed:.1e} is allowed: no figures")


if __name__ == "__main__":
    options = arguments(__doc__, ATTENTION)
    tables = {f"{name}: {ATTENTION[name]}": compare(ATTENTION[name], options.rounds) for name in options.workload}
    report("attention", tables, write=options.json)
