"""What the plots of all benchmarks have in common: SVG, the same bytes for the same figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def figure(width: float, height: float) -> Any:
    """Return an empty figure of matplotlib, in inches, or stop where that isn't installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit(
            "a plot needs matplotlib: pip install matplotlib; figures kept with --json can be drawn on any machine"
        ) from None
    matplotlib.rcParams.update({"svg.hashsalt": "scree", "svg.fonttype": "none"})
    return Figure(figsize=(width, height), layout="constrained")


def keep(drawn: Any, path: Path) -> None:
    """Write a figure as SVG."""
    drawn.savefig(path, format="svg", metadata={"Date": None})
    print(f"drawn: {path.name}")
