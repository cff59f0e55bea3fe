"""Memory of unequal rows, packed against padded with a mask, over many draws: what packing saves, and how it varies.

    python benchmarks/padding_waste.py --json --plot

Bytes alone: a scree Array's values and offsets, against the padded array and the mask that ``to_padded`` makes of it.
What is saved depends on the longest row of a draw, so it is told as a median, with the 5th and 95th percentile. "All"
is the saving of all draws together, in which large batches weigh more.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from draws import DOCSTRINGS, FUNCTIONS, INFERENCE, PARAGRAPHS, TOPICS, TRAINING, LogNormal, Real
from harness import RESULTS, environment

import scree

GOALS = {64: 0.71, 32: 0.85}
"""Savings that are claimed elsewhere, by the rows of a batch: for training and for inference."""
SOURCES: tuple[LogNormal | Real, ...] = (
    TRAINING,
    *(Real(64, texts) for texts in (FUNCTIONS, DOCSTRINGS, PARAGRAPHS)),
    INFERENCE,
    *(Real(32, texts) for texts in (FUNCTIONS, DOCSTRINGS, PARAGRAPHS, TOPICS)),
)
CONTENTS: dict[str, tuple[tuple[int, ...], str, str]] = {
    "states": ((768,), "float16", "bool"),
    "ids": ((), "int64", "int64"),
}
"""Features and dtype of what is in the rows, and the mask's dtype: hidden states, whose mask is next to nothing, and
token ids as transformers' tokenizers return them, whose mask is as large as they are."""
BATCHES = tuple(2**power for power in range(3, 11))


def sizes(lengths: tuple[int, ...], content: str) -> tuple[int, int]:
    """Return the bytes of a batch, packed and padded."""
    features, dtype, mask_dtype = CONTENTS[content]
    packed = scree.from_lengths(np.empty((sum(lengths), *features), dtype), lengths)  # touches no memory
    in_a_slot = math.prod(features) * np.dtype(dtype).itemsize + np.dtype(mask_dtype).itemsize
    return packed.values.nbytes + packed.offsets.nbytes, len(lengths) * max(lengths) * in_a_slot


def check(lengths: tuple[int, ...]) -> None:
    """Fail unless ``to_padded`` makes arrays of the size that is counted."""
    packed = scree.from_lengths(np.zeros((sum(lengths), 768), np.float16), lengths)
    padded, mask = scree.to_padded(packed)
    assert sizes(lengths, "states") == (packed.values.nbytes + packed.offsets.nbytes, padded.nbytes + mask.nbytes)


def savings(source: LogNormal | Real, draws: int, content: str) -> dict[str, float]:
    """Return the saving of a source's draws: median, percentiles, that of all together, and how many reach the goal."""
    packed, padded = np.array([sizes(source.draw(seed), content) for seed in range(draws)]).T
    saved = 1 - packed / padded
    low, median, high = np.percentile(saved, (5, 50, 95)).tolist()
    found = {"median": median, "low": low, "high": high, "all": float(1 - packed.sum() / padded.sum())}
    if source.rows in GOALS:
        found["reached"] = float(np.mean(saved >= GOALS[source.rows]))
    return found


def expected(rows: int, sigma: float) -> float:
    """Return the saving of a batch whose longest row is the median one of so many: ``1 - mean / longest``."""
    z = statistics.NormalDist().inv_cdf(0.5 ** (1 / rows))
    return 1 - math.exp(sigma**2 / 2 - sigma * z)


def by_rows(source: LogNormal, draws: int) -> dict[int, dict[str, float]]:
    """Return how the saving grows with the rows of a batch."""
    return {
        rows: savings(LogNormal(rows, source.mean, source.sigma), draws, "states")
        | {"expected": expected(rows, source.sigma)}
        for rows in BATCHES
    }


def show(kept: dict[str, Any]) -> None:
    """Print all figures."""
    print(*(f"{key:>8}  {value}" for key, value in kept["environment"].items()), sep="\n")
    for content, (features, dtype, mask) in CONTENTS.items():
        shape = f"{features[0]} {dtype} a token" if features else f"one {dtype} a token"
        print(f"\n{content}, {shape}, padded with a mask of {mask}: saving in {kept['draws']:,} draws")
        for name, of in kept["savings"].items():
            saved, goal = of[content], GOALS[of["rows"]]
            verdict = "met" if saved["median"] >= goal else "MISSED"
            print(
                f"  {name:50} median {saved['median']:6.1%}  ({saved['low']:.1%} to {saved['high']:.1%})  "
                f"all {saved['all']:6.1%}  {saved['reached']:4.0%} reach {goal:.0%}; goal at median: {verdict}"
            )
    for name, of in kept["by_rows"].items():
        print(f"\n{name}, by the rows of a batch: median of the draws (expected)")
        print("  " + ", ".join(f"{rows}: {at['median']:.0%} ({at['expected']:.0%})" for rows, at in of.items()))


def plot(kept: dict[str, Any], path: Path) -> None:
    """Draw the saving by the rows of a batch, and the draws of each source."""
    from picture import figure, keep

    of_all = figure(11, 3.6)
    left, right = of_all.subplots(1, 2)
    for (name, of), colour in zip(kept["by_rows"].items(), ("tab:blue", "tab:orange"), strict=True):
        rows = [int(each) for each in of]
        band = [[at[edge] for at in of.values()] for edge in ("low", "high")]
        left.plot(rows, [at["median"] for at in of.values()], "o-", color=colour, markersize=4, label=name)
        left.plot(rows, [at["expected"] for at in of.values()], ":", color="black", linewidth=1)
        left.fill_between(rows, *band, color=colour, alpha=0.2, linewidth=0)
    left.set(xscale="log", xlabel="rows of a batch (dotted: expected)", ylim=(0, 1))
    left.set_title("memory that packing saves, log-normal rows", fontsize=9)
    left.set_xticks(BATCHES, [str(each) for each in BATCHES])
    left.legend(fontsize=7, loc="lower right")
    names = list(kept["savings"])[::-1]
    for at, name in enumerate(names):
        saved, goal = kept["savings"][name]["states"], GOALS[kept["savings"][name]["rows"]]
        right.plot((saved["low"], saved["high"]), (at, at), color="tab:blue", linewidth=2)
        right.plot(saved["median"], at, "o", color="tab:blue", markersize=5)
        right.plot(goal, at, "|", color="tab:green", markersize=12)
    right.set(xlim=(0.5, 1))
    right.set_title("median, 5 % to 95 % of draws; green: goal", fontsize=9)
    right.set_yticks(range(len(names)), names, fontsize=7)
    for panel, axis in ((left, left.yaxis), (right, right.xaxis)):
        axis.set_major_formatter(lambda share, _: f"{share:.0%}")
        panel.grid(alpha=0.3)
    keep(of_all, path)


def main() -> None:
    """Count everything, print it, keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="batches of each kind (default 1000)")
    parser.add_argument("--json", action="store_true", help="also write the figures to benchmarks/results/")
    parser.add_argument("--plot", action="store_true", help="also draw them there; needs matplotlib")
    chosen = parser.parse_args()
    if chosen.draws < 1:
        parser.error(f"--draws must be at least 1, got {chosen.draws}")
    for source in SOURCES:
        check(source.draw(0))
    kept: dict[str, Any] = {
        "environment": environment(),
        "draws": chosen.draws,
        "savings": {
            str(source): {"rows": source.rows} | {name: savings(source, chosen.draws, name) for name in CONTENTS}
            for source in SOURCES
        },
        "by_rows": {f"sigma {source.sigma}": by_rows(source, chosen.draws) for source in (TRAINING, INFERENCE)},
    }
    show(kept)
    path = RESULTS / f"padding-waste-{kept['environment']['date']}.json"
    if chosen.json:
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten to benchmarks/results/{path.name}")
    if chosen.plot:
        plot(kept, path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
