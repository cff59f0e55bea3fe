"""Time candidates side by side: interleaved runs, medians, ratios, and what they ran on."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import scree

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One comparison: our figure, that of what it is measured against, and whether a goal is met."""

    name: str
    ms: float
    against: str
    against_ms: float
    goal: str = ""
    unit: str = "ms"
    """Of both figures: ``"ms"``, or ``"MiB"`` for memory."""

    @property
    def ratio(self) -> float:
        return self.ms / self.against_ms


def at_most(most: float, figure: float, unit: str = "") -> str:
    """Return a goal and whether the figure meets it."""
    return f"goal <= {most:g}{unit}: {'met' if figure <= most else 'MISSED'}"


def medians(candidates: dict[str, Callable[[], object]], rounds: int = 11) -> dict[str, float]:
    """Return each candidate's median time in ms, after one warm-up.

    Every round runs each of them once, and starts with another one: whatever else the machine does,
    it does to all alike.
    """
    names = list(candidates)
    times: dict[str, list[float]] = {name: [] for name in names}
    for run in candidates.values():
        run()
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            start = time.perf_counter()
            result = candidates[name]()
            times[name].append(time.perf_counter() - start)
            del result  # freeing it is nobody's time
    return {name: statistics.median(spent) * 1e3 for name, spent in times.items()}


def arguments(description: str | None, workloads: Iterable[str] = ()) -> argparse.Namespace:
    """Read the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11, help="runs of each candidate (default 11)")
    parser.add_argument("--json", action="store_true", help="also write the figures to benchmarks/results/")
    if names := list(workloads):
        parser.add_argument("--workload", choices=names, nargs="+", default=names, help="default: all")
    return parser.parse_args()


def report(
    benchmark: str,
    tables: dict[str, list[Row]],
    *,
    write: bool,
    library: str = "",
    accelerator: str = "",
    also: dict[str, Any] | None = None,
) -> None:
    """Print what was measured, on what, and with which version of a library.

    With ``write``, keep it as JSON, and beside it what there is ``also``.
    """
    ran_on = environment(library, accelerator)
    print(*(f"{key:>8}  {value}" for key, value in ran_on.items()), sep="\n")
    for title, rows in tables.items():
        _print_table(title, rows)
    if write:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{benchmark}-{ran_on['date']}.json"
        kept = {title: [asdict(row) | {"ratio": row.ratio} for row in rows] for title, rows in tables.items()}
        path.write_text(
            json.dumps({"environment": ran_on, "tables": kept} | (also or {}), indent=1) + "\n", encoding="utf-8"
        )
        print(f"\nwritten to benchmarks/results/{path.name}")


def _print_table(title: str, rows: list[Row]) -> None:
    name_width, against_width = (max(len(getattr(row, field)) for row in rows) for field in ("name", "against"))
    print(f"\n{title}")
    for row in rows:
        ours, theirs = _readable(row.ms, row.unit), _readable(row.against_ms, row.unit)
        print(
            f"  {row.name:{name_width}} {ours:>11}   {row.against:{against_width}} {theirs:>11}   "
            f"ratio {row.ratio:<6.2f} {row.goal}".rstrip()
        )


def _readable(ms: float, unit: str) -> str:
    if unit != "ms":
        return f"{ms:,.1f} {unit}"
    return f"{ms * 1e3:,.2f} us" if ms < 0.1 else f"{ms:,.2f} ms"


def environment(library: str = "", accelerator: str = "") -> dict[str, Any]:
    """Return what the figures depend on; the CPU counts where no accelerator is named."""
    of_library = f"{library} {importlib.metadata.version(library)}, " if library else ""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    threads = {name: os.environ[name] for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS") if name in os.environ}
    settings = " ".join(f"{name}={value}" for name, value in threads.items())
    return {
        "date": datetime.date.today().isoformat(),
        "device": accelerator or f"{_cpu_model()}, {_cores()} cores",
        "versions": f"scree {scree.__version__}, {of_library}NumPy {np.__version__}, {blas['name']} {blas['version']}, "
        f"Python {platform.python_version()}, {platform.system()}",
        "command": f"{settings} python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}".strip(),
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
