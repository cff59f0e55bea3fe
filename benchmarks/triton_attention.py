"""scree's attention kernels against FlashAttention on one GPU: forward, training step, launch.

    python benchmarks/triton_attention.py --json --plot
    python benchmarks/triton_attention.py --plot-from benchmarks/results/triton-attention-DATE.json

A training step is forward and backward for a given gradient of the output. Python's calls are timed with
empty caches on the device, as are replays of CUDA graphs, in which no host takes part.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import torch
from competitors.flash_attention import (
    REFERENCE_TOKENS,
    Run,
    captured,
    check,
    draw,
    installed,
    reason,
    reference,
    stepping,
    ways,
)
from harness import RESULTS, at_most
from ratios import FORWARD, FORWARD_MEDIAN, STEP, STEP_MEDIAN, plot
from workloads import ATTENTION_TRITON, Attention

LARGE = 15_000
"""Tokens from which on a step is the device's work, not the host's."""
SMALL_STEP, SMALL_GRAPH, LAUNCH_US = 1.0, 0.70, 30
AGAINST = {"scree": "fa2", "scree, new Arrays": "fa2", "scree, graph": "fa2, graph", "fa3": "fa2", "fa4": "fa2"}
"""Whom each candidate is measured against."""

# ---------------------------------------------------------------------- measurements


def median_ms(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return each candidate's median time in ms on the device, its caches empty; rounds as in ``harness.medians``."""
    from triton.testing import do_bench  # not needed to draw kept figures

    names = list(runs)
    times: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            times[name].append(do_bench(runs[name], warmup=10, rep=40, return_mode="median"))
    return {name: statistics.median(spent) for name, spent in times.items()}


def measure(workload: Attention, functions: dict[str, Callable[..., Any]], rounds: int) -> dict[str, Any]:
    """Check and time all candidates on one batch, forwards and as training steps."""
    x = draw(workload)
    candidates = ways(workload, x, functions)
    exact = workload.tokens <= REFERENCE_TOKENS
    figures: dict[str, Any] = {"tokens": workload.tokens, "workload": str(workload), "skipped": {}, "error": {}}
    for kind, factor in (("forward", 1.0), ("step", 3.5)):
        if kind == "forward":
            runs = {name: way(*x.qkv) for name, way in candidates.items()}
            wanted = (reference(workload, x.qkv) if exact else runs["fa2"](),)
        else:
            runs = {name: stepping(way, x) for name, way in candidates.items() if name != "fa3"}
            wanted = runs["fa2"]()
        skipped = figures["skipped"][kind] = {}
        for name in ("fa2", "scree"):
            try:
                runs[f"{name}, graph"] = captured(runs[name])
            except Exception as failure:
                skipped[f"{name}, graph"] = reason(failure)
        figures["error"][kind] = check(runs, wanted, exact and kind == "forward", skipped)
        del wanted
        ms = median_ms(runs, rounds)
        figures[kind] = {
            "ms": ms,
            "tflops": {name: factor * workload.flops / spent / 1e9 for name, spent in ms.items()},
            "ratio": {name: ms[name] / ms[other] for name, other in AGAINST.items() if name in ms and other in ms},
        }
    return figures


def launch_us(workload: Attention, functions: dict[str, Callable[..., Any]]) -> dict[str, float]:
    """Return the wall-clock time of a forward call that isn't waited for, in us: the median of 5 times 200 calls."""
    x = draw(workload)
    times: dict[str, float] = {}
    for name, way in ways(workload, x, {"fa2": functions["fa2"]}).items():
        run, spent = way(*x.qkv), []
        for _ in range(6):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(200):
                run()
            spent.append((time.perf_counter() - start) / 200 * 1e6)
        torch.cuda.synchronize()
        times[name] = statistics.median(spent[1:])  # the first warms up
    return times


# ---------------------------------------------------------------------- reports


def line(name: str, figures: dict[str, Any]) -> str:
    """Return the figures of one batch, as ratios to FlashAttention-2, and who was left out and why."""
    parts = [f"{name:16} {figures['tokens']:6,} tokens"]
    for kind in ("forward", "step"):
        ratio, ms = figures[kind]["ratio"], figures[kind]["ms"]
        new, graph = (f"{ratio.get(f'scree, {way}', float('nan')):.2f}" for way in ("new Arrays", "graph"))
        part = f"{kind} {ratio['scree']:.2f} (new Arrays {new}, graph {graph}), "
        part += f"{figures[kind]['tflops']['scree']:3.0f} TFLOP/s"
        if later := [peer for peer in ("fa3", "fa4") if peer in ms]:
            best = min(later, key=ms.__getitem__)
            part += f", {ms['scree'] / ms[best]:.2f} of {best}"
        parts.append(part)
    skipped = [f"\n    {peer}, {kind}: {why}" for kind, of in figures["skipped"].items() for peer, why in of.items()]
    return " | ".join(parts) + "".join(skipped)


def goals(shapes: dict[str, Any], launch: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each goal with the figure that decides it, and where that was found."""

    def ratios(kind: str, candidate: str = "scree", least: float = 0, most: float = float("inf")) -> dict[str, float]:
        measured = {n: f[kind]["ratio"].get(candidate) for n, f in shapes.items() if least <= f["tokens"] < most}
        return {name: ratio for name, ratio in measured.items() if ratio is not None}

    forward, large = ratios("forward"), ratios("step", least=LARGE)
    small, in_graph = (ratios("step", candidate, most=LARGE) for candidate in ("scree", "scree, graph"))
    table = [
        ("forward, worst", forward, max, FORWARD),
        ("forward, median", forward, statistics.median, FORWARD_MEDIAN),
        (f"step of {LARGE:,} tokens or more, worst", large, max, STEP),
        (f"step of {LARGE:,} tokens or more, median", large, statistics.median, STEP_MEDIAN),
        ("step of fewer, worst", small, max, SMALL_STEP),
        ("step of fewer in a graph, worst", in_graph, max, SMALL_GRAPH),
        ("launch in us", {launch["shape"]: launch["us"]["scree"]} if launch else {}, max, LAUNCH_US),
    ]
    found = []
    for goal, figures, of, most in table:
        if figures:
            figure = of(figures.values())
            at = [name for name, ratio in figures.items() if ratio == figure and of is max]
            found.append(
                {"goal": goal, "figure": figure, "at": at, "count": len(figures), "verdict": at_most(most, figure)}
            )
        else:
            found.append({"goal": goal, "figure": None, "at": [], "count": 0, "verdict": "not measured"})
    return found


def summarise(kept: dict[str, Any]) -> None:
    """Print what the figures are from, and how they meet the goals."""
    print()
    print(*(f"{key:>8}  {value}" for key, value in kept["environment"].items()), sep="\n")
    print()
    if kept["launch"]:
        each = ", ".join(f"{name} {us:.1f} us" for name, us in kept["launch"]["us"].items())
        print(f"  a forward call of {kept['launch']['shape']}, not waited for: {each}")
    for goal in kept["goals"]:
        figure = "" if goal["figure"] is None else f"{goal['figure']:.2f}"
        decides = f"of {goal['count']:2}  {goal['verdict']}  {', '.join(goal['at'])}"
        print(f"  {goal['goal']:38} {figure:>6}  {decides}".rstrip())
    for name, why in kept["refused"].items():
        print(f"  {name}: no figures: {why}")


def environment() -> dict[str, Any]:
    """Return what the figures depend on."""
    import triton
    from triton import knobs

    ptxas = knobs.nvidia.ptxas
    return harness.environment("torch", torch.cuda.get_device_name()) | {
        "torch": torch.__version__,
        "triton": triton.__version__,
        "ptxas": ptxas.version if ptxas else "not found",
        "driver": _driver(),
    }


def _driver() -> str:
    if (tool := shutil.which("nvidia-smi")) is None:
        return "unknown"
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    return (subprocess.run(command, capture_output=True, text=True).stdout.split() or ["unknown"])[0]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--shapes", nargs="+", default=[""], help="those whose names contain one of these; default: all"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each candidate (default 3)")
    parser.add_argument("--json", action="store_true", help="also write the figures to benchmarks/results/")
    parser.add_argument("--plot", action="store_true", help="also draw them there")
    parser.add_argument(
        "--plot-from", type=Path, metavar="JSON", help="only draw the figures that are kept in this file"
    )
    parser.add_argument("--seconds", type=int, default=420, help="stop then, with what there is (default 420)")
    chosen = parser.parse_args()
    chosen.workloads = [name for name in ATTENTION_TRITON if any(part in name for part in chosen.shapes)]
    if not chosen.workloads:
        parser.error(f"no such shapes; there are {', '.join(ATTENTION_TRITON)}")
    chosen.smallest = min(chosen.workloads, key=lambda name: ATTENTION_TRITON[name].flops)
    return chosen


def write(kept: dict[str, Any], path: Path) -> None:
    """Keep the figures."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def until(seconds: int) -> Iterator[None]:
    """Leave the block when time is up, or at Ctrl-C, and go on behind it."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)  # once more where a library swallows it
    try:
        yield
    except KeyboardInterrupt:
        print("stopped: this is what there is", flush=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Measure one batch after the other until all are done or time is up."""
    chosen = options()
    if chosen.plot_from:
        plot(json.loads(chosen.plot_from.read_text(encoding="utf-8")), chosen.plot_from.with_suffix(".svg"))
        return
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here, and these are a GPU's figures; --plot-from draws kept ones")
    kept: dict[str, Any] = {"environment": environment(), "goals": [], "launch": {}, "shapes": {}, "refused": {}}
    path = RESULTS / f"triton-attention-{kept['environment']['date']}.json"
    with until(chosen.seconds):
        functions = installed()
        for name in chosen.workloads:
            try:
                kept["shapes"][name] = measure(ATTENTION_TRITON[name], functions, chosen.rounds)
                print(line(name, kept["shapes"][name]), flush=True)
                if name == chosen.smallest:
                    kept["launch"] = {"shape": name, "us": launch_us(ATTENTION_TRITON[name], functions)}
            except Exception as failure:
                kept["refused"][name] = reason(failure)
                print(f"{name}: no figures: {reason(failure)}", flush=True)
            torch.cuda.empty_cache()
            if chosen.json:
                write(kept, path)
    kept["goals"] = goals(kept["shapes"], kept["launch"])
    summarise(kept)
    if chosen.json:
        write(kept, path)
        print(f"\nwritten to benchmarks/results/{path.name}")
    if chosen.plot:
        plot(kept, path.with_suffix(".svg"))
    if kept["refused"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
