"""Draw kept figures of ``transformers_training.py``: peak memory and time a token, packed against padded.

    python benchmarks/training_plot.py benchmarks/results/transformers-training-*DATE.json

One column for each file and kind of call; bars are medians of draws, dots are draws. The picture lies beside the files,
as ``transformers-training-DATE.svg``. The figures are printed too, as tables of Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from picture import figure, keep
from training_report import AGAINST, Draw, comparable, markdown

COLOURS = {
    AGAINST: "tab:gray",
    "sdpa, flattened": "tab:orange",
    "flex, flattened": "tab:green",
    "scree, padded": "tab:cyan",
    "scree, flattened": "tab:blue",
    "scree, flattened, with its loss": "tab:purple",
}
UNITS = {"KiB": "peak memory, KiB a token", "us": "time, us a token"}


def read(path: Path) -> tuple[dict[str, Any], list[Draw]]:
    """Return what figures ran on, and the draws."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    if not kept.get("draws"):
        raise SystemExit(f"{path} holds no draws; measure again: {kept['environment']['command']}")
    return kept["environment"] | {"torch": kept["torch"]}, [Draw(**draw) for draw in kept["draws"]]


def panel(axes: Any, draws: list[Draw], unit: str) -> None:
    """Draw all candidates on all sources of a kind of call."""
    sources = list(dict.fromkeys(draw.source for draw in draws))
    names = [name for name in COLOURS if any(name in draw.ms for draw in draws)]
    width = 0.8 / len(names)
    for at, source in enumerate(sources):
        for i, name in enumerate(names):
            of, both = comparable([draw for draw in draws if draw.source == source], name)
            if not of:
                continue
            where, found = at + (i - len(names) / 2 + 0.5) * width, [draw.a_token(name, unit) for draw in of]
            label = name if at == 0 else None
            axes.bar(where, statistics.median(found), width * 0.9, color=COLOURS[name], alpha=0.75, label=label)
            axes.plot([where] * len(found), found, ".", color="black", markersize=3)
            if name.startswith("scree, flattened") and both:
                saved = statistics.median(draw.saved(name, unit) for draw in of)
                axes.annotate(f"saves\n{saved:.0%}", (where, max(found)), ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(sources)), [source.replace(", ", ",\n").replace(" and ", ",\n") for source in sources])
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", alpha=0.3)


def plot(kept: list[tuple[dict[str, Any], list[Draw]]], path: Path) -> None:
    """Draw the figures of all files, memory above and time below."""
    columns = [
        (ran_on, kind, [draw for draw in draws if draw.kind == kind])
        for ran_on, draws in kept
        for kind in dict.fromkeys(draw.kind for draw in draws)
    ]
    drawn = figure(1 + 3.2 * len(columns), 6.5)
    grid = drawn.subplots(2, len(columns), squeeze=False)
    for at, (ran_on, kind, draws) in enumerate(columns):
        for axes, unit in zip(grid[:, at], UNITS, strict=True):
            panel(axes, draws, unit)
            axes.set_ylabel(UNITS[unit], fontsize=7)
        grid[0, at].set_title(f"{kind}\n{ran_on['device'].split(', driver')[0]}", fontsize=9)
    handles = {label: bar for axes in grid[0] for bar, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    order = [name for name in COLOURS if name in handles]
    drawn.legend([handles[name] for name in order], order, fontsize=8, ncols=len(order), loc="outside lower center")
    versions = "; ".join(dict.fromkeys(f"PyTorch {ran_on['torch']}, {ran_on['date']}" for ran_on, _ in kept))
    drawn.suptitle(f"transformers on unequal rows, packed against padded; dots are draws ({versions})", fontsize=9)
    keep(drawn, path)


def main() -> None:
    """Draw the files that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, help="JSON that transformers_training.py kept")
    chosen = parser.parse_args()
    kept = [read(path) for path in chosen.results]
    for ran_on, draws in kept:
        print(f"\n{ran_on['device']}; {ran_on['versions']}\n\n{markdown(draws)}\n")
    newest = max(ran_on["date"] for ran_on, _ in kept)
    plot(kept, chosen.results[0].with_name(f"transformers-training-{newest}.svg"))


if __name__ == "__main__":
    main()
