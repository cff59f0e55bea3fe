"""The picture of ``triton_attention.py``: times relative to FlashAttention-2's, by shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from picture import figure, keep

FORWARD, FORWARD_MEDIAN, STEP, STEP_MEDIAN = 0.70, 0.60, 0.85, 0.75
"""Goals: times relative to FlashAttention-2's."""


def plot(kept: dict[str, Any], path: Path) -> None:
    """Draw the ratios of all batches as an SVG: forward on the left, steps on the right."""
    if not (names := list(kept["shapes"])[::-1]):
        raise SystemExit("there are no figures to draw")
    drawn = figure(11, 1.5 + 0.22 * len(names))
    panels = drawn.subplots(1, 2, sharey=True)
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
    drawn.suptitle(
        f"{where['device']}, PyTorch {where['torch']}, Triton {where['triton']}, {where['date']}", fontsize=9
    )
    keep(drawn, path)


MARKS = {
    "fa3": ("x", "tab:orange"),
    "fa4": ("+", "tab:red"),
    "scree, new Arrays": ("d", "tab:cyan"),
    "scree, graph": ("s", "tab:purple"),
    "scree": ("o", "tab:blue"),
}
