"""What ``import scree`` costs next to ``import numpy``, which it cannot avoid: at most 20 ms more, and no framework.

Every figure is from a fresh interpreter.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from harness import Row, arguments, at_most, report

GOAL_MS = 20
UNWANTED = ("torch", "triton", "jax", "mlx", "pytest", "importlib.metadata")

IMPORT = """
import json, sys, time
start = time.perf_counter()
import numpy
between, before = time.perf_counter(), set(sys.modules)
import scree
imported = time.perf_counter()
scree.Array
used = time.perf_counter()
more = sorted(set(sys.modules) - before)
print(json.dumps([(between - start) * 1e3, (imported - between) * 1e3, (used - between) * 1e3, more]))
"""


def fresh() -> tuple[float, float, float, list[str]]:
    """Import NumPy, then scree, then use it; return the ms of the first, those more to either, and scree's modules."""
    run = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    numpy, more, used, modules = json.loads(run.stdout)
    return numpy, more, used, modules


def compare(rounds: int) -> list[Row]:
    """Time what scree adds to NumPy, in the same interpreter."""
    fresh()  # compiles what has changed, and fills the disk's cache
    numpy, more, used = (statistics.median(ms) for ms in zip(*(fresh()[:3] for _ in range(rounds)), strict=True))
    return [
        Row("import scree", numpy + more, "import numpy", numpy, at_most(GOAL_MS, more, " ms more")),
        Row("and its first name", numpy + used, "import numpy", numpy),
    ]


def print_modules() -> None:
    """Print what scree imports beyond NumPy, and fail where that is more than it may."""
    modules = fresh()[3]
    others = [name for name in modules if not name.startswith("scree")]
    print(f"\n{len(modules)} modules more than NumPy's; not scree's own: {', '.join(others)}")
    if found := [name for name in UNWANTED if name in modules]:
        raise SystemExit(f"among them, unwanted: {', '.join(found)}")


if __name__ == "__main__":
    options = arguments(__doc__)
    report("imports", {"Imports in fresh interpreters": compare(options.rounds)}, write=options.json)
    print_modules()
