"""The backward kernel for Hopper against scree-triton's other two, on rows of different lengths: which is for what.

    python benchmarks/hopper_backward.py --json

Times are those of replays of CUDA graphs. ``attention.hopper.backward._is_worth`` follows from them.
"""

from __future__ import annotations

import torch
from harness import Row, arguments, report
from triton.testing import do_bench_cudagraph
from workloads import ATTENTION_TRITON, Attention, log_normal_around

import scree
from scree_torch.varlen_attention.options import Options
from scree_triton.attention import backward, run
from scree_triton.attention.batch import batch_of
from scree_triton.attention.hopper import backward as hopper_backward

ROWS = ((128, 256, 16), (64, 512, 16), (16, 1024, 8), (4, 8192, 16))
"""Rows, their median length, and heads."""
WORKLOADS = {name: w for name, w in ATTENTION_TRITON.items() if w.head_dim >= 64 and not name.endswith("m256")} | {
    f"d{head_dim}h{heads}m{median}x{rows}": Attention(
        log_normal_around(rows, median, 0.6), heads, head_dim, dtype="bfloat16"
    )
    for head_dim in hopper_backward.HEAD_DIMS
    for rows, median, heads in ROWS
}


def measure(name: str, workload: Attention) -> Row:
    """Return the time of a backward pass by either way."""
    (total, heads, dim), kv_heads = (workload.tokens, workload.heads, workload.head_dim), workload.kv_heads
    dtype = getattr(torch, workload.dtype)
    q, k, v, d_out = (
        torch.randn(total, n, dim, device="cuda", dtype=dtype) for n in (heads, *2 * [kv_heads or heads], heads)
    )
    queries = scree.from_lengths(q, workload.lengths)
    batch = batch_of(queries.layout, queries.layout)
    options = Options(workload.causal, dim**-0.5, (-1, 0 if workload.causal else -1), None)
    plan = run.plan_of(q, k, v, batch, None, options, want_lse=False)
    found = run.forward(q, k, v, None, batch, plan, learns=True)

    def time(is_hoppers: bool) -> float:
        hopper_backward._is_worth = lambda *call: is_hoppers
        plan.backward.clear()

        def step() -> None:
            backward.backward(d_out, None, q, k, v, found, None, batch, plan)

        step()
        (launches,) = plan.backward.values()
        if isinstance(launches, hopper_backward.Launches) != is_hoppers:
            raise SystemExit("this isn't a GPU or a version of Triton that the kernel for Hopper is offered on")
        return do_bench_cudagraph(step, rep=20, return_mode="median")

    ms = time(True)
    what = f"{name}, {len(workload.lengths)} rows, mean {total // len(workload.lengths)}, {total * heads:,}"
    return Row(f"{what}, {2.5 * workload.flops / ms / 1e9:.0f} TFLOP/s", ms, "others", time(False))


def main() -> None:
    """Print both times for each batch, and what the kernel for Hopper reaches."""
    options = arguments(__doc__, WORKLOADS)
    rows = [measure(name, WORKLOADS[name]) for name in options.workload]
    report("hopper-backward", {"backward": rows}, write=options.json, accelerator=torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
