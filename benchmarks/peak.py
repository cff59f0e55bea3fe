"""Print the MiB that one training step of one candidate takes at its peak: ``peak.py torch attention_2core scree``.

Linux alone: the kernel keeps a process's high-water mark, and forgets it when asked.
"""

from __future__ import annotations

import gc
import importlib
import sys
from pathlib import Path

from workloads import ATTENTION


def resident(field: str) -> int:
    """Return a figure of this process's memory, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def peak(library: str, workload: str, candidate: str) -> float:
    """Return the MiB above what is held before the step."""
    if library == "mlx":
        import mlx.core as mx

        mx.set_cache_limit(0)  # it would keep freed blocks
    step = importlib.import_module(f"competitors.{library}_attention").candidates(ATTENTION[workload])[candidate].step
    step()  # compiled, threads started
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    step()
    return (resident("VmHWM") - before) / 1024


if __name__ == "__main__":
    print(peak(*sys.argv[1:]))
