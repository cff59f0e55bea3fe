"""scree's attention kernels against FlashAttention on one GPU: forward, training step, launch.

    python benchmarks/triton_attention.py --json --plot
    python benchmarks/triton_attention.py --plot-from benchmarks/results/triton-attention-DATE.json

FlashAttention-2 is PyTorch's own; 3 (``fa3_fwd_interface``) and 4 (``flash_attn.cute``) take part where they are
installed. A training step is forward and backward for a given gradient of the output. Python's calls are timed with
empty caches on the device, as are replays of CUDA graphs, in which no host takes part.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import harness
import torch
from harness import RESULTS, at_most
from workloads import ATTENTION_TRITON, Attention

import scree

DEVICE, BACKEND = "cuda", "triton"
PEERS = {"fa3": "fa3_fwd_interface", "fa4": "flash_attn.cute"}
NO_WORSE, CLOSE = 1.1, 1e-2
"""Errors: of scree, as a multiple of FlashAttention-2's; of anyone, relative to the result."""
REFERENCE_TOKENS = 40_000
"""Up to which a reference is computed; beyond them FlashAttention-2 is it."""
LARGE = 15_000
"""Tokens from which on a step is the device's work, not the host's."""
FORWARD, FORWARD_MEDIAN, STEP, STEP_MEDIAN, SMALL_STEP, SMALL_GRAPH, LAUNCH_US = 0.70, 0.60, 0.85, 0.75, 1.0, 0.70, 30
AGAINST = {"scree": "fa2", "scree, new Arrays": "fa2", "scree, graph": "fa2, graph", "fa3": "fa2", "fa4": "fa2"}
"""Whom each candidate is measured against."""

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
            print(f"{name} doesn't take part: {_reason(error)}")
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
            skipped[name] = _reason(failure)
            del runs[name]
            continue
        pairs = zip(got if isinstance(got, tuple) else (got,), wanted, strict=True)
        found = [error(*pair) for pair in pairs]
        most = NO_WORSE * errors["fa2"] if exact and name.startswith("scree") else CLOSE
        if not all(off <= most for off in found):  # NaN isn't either
            reason = f"off by {', '.join(f'{off:.1e}' for off in found)}, allowed {most:.1e}"
            if name.startswith(("scree", "fa2")):
                raise Refused(f"{name}: {reason}")
            skipped[name] = reason
            del runs[name]
        errors[name] = max(found)
    return [errors["fa2"], errors["scree"]]


def _reason(failure: BaseException) -> str:
    lines = str(failure).strip().splitlines() or [""]
    return f"{type(failure).__name__}: {lines[0][:160]}"


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
                skipped[f"{name}, graph"] = _reason(failure)
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
    for name, reason in kept["refused"].items():
        print(f"  {name}: no figures: {reason}")


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


def plot(kept: dict[str, Any], path: Path) -> None:
    """Draw the ratios of all batches as an SVG: forward on the left, steps on the right."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit(
            "a plot needs matplotlib: pip install matplotlib; --plot-from draws figures kept with --json on any machine"
        ) from None
    matplotlib.rcParams.update({"svg.hashsalt": "scree", "svg.fonttype": "none"})
    if not (names := list(kept["shapes"])[::-1]):
        raise SystemExit("there are no figures to draw")
    figure = Figure(figsize=(11, 1.5 + 0.22 * len(names)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, kind, lines in zip(
        panels, ("forward", "step"), ((FORWARD, FORWARD_MEDIAN), (STEP, STEP_MEDIAN)), strict=True
    ):
        for candidate, (marker, colour) in MARKS.items():
            ratios = {name: kept["shapes"][name][kind]["ratio"].get(candidate) for name in names}
            seen = {name: ratio for name, ratio in ratios.items() if ratio is not None}
            if seen:
                at = [names.index(name) for name in seen]
                panel.plot(list(seen.values()), at, marker, color=colour, label=candidate, markersize=5)
        panel.axvline(1, color="black", linewidth=1)
        for goal, style in zip(lines, ("--", ":"), strict=True):
            panel.axvline(goal, color="green", linestyle=style, linewidth=1, label=f"goal {goal:.2f}")
        panel.set(title=f"{kind}: time, relative to FlashAttention-2", xlim=(0.25, 8), xscale="log")
        ticks = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.04))
    panels[0].set_yticks(range(len(names)), names, fontsize=7)
    where = kept["environment"]
    figure.suptitle(
        f"{where['device']}, PyTorch {where['torch']}, Triton {where['triton']}, {where['date']}", fontsize=9
    )
    figure.savefig(path, format="svg", metadata={"Date": None})
    print(f"drawn: {path.name}")


MARKS = {
    "fa3": ("x", "tab:orange"),
    "fa4": ("+", "tab:red"),
    "scree, new Arrays": ("d", "tab:cyan"),
    "scree, graph": ("s", "tab:purple"),
    "scree": ("o", "tab:blue"),
}


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
                kept["refused"][name] = _reason(failure)
                print(f"{name}: no figures: {_reason(failure)}", flush=True)
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
