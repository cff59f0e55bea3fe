"""What collating examples into a packed batch costs, against transformers' own collator.

Both return the same batch, which is checked first: token ids, labels, positions and cumulative lengths. transformers
joins Python lists, number by number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from harness import Row, arguments, at_most, medians, report
from workloads import log_normal

import scree.hf

GOAL = 1.0
WORKLOADS = {64: log_normal(64, mean=256, sigma=0.6), 1_000: log_normal(1_000, mean=256, sigma=0.6)}
KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "lists": np.ndarray.tolist,
    "arrays": np.asarray,
    "tensors": torch.from_numpy,
}
THEIRS = "DataCollatorWithFlattening"


def examples(lengths: Sequence[int], kind: str, *, masks: bool) -> list[dict[str, Any]]:
    """Return rows of token ids, as a tokeniser returns them with ``masks``."""
    rng, make = np.random.default_rng(0), KINDS[kind]
    rows = [{"input_ids": make(rng.integers(3, 32_000, length))} for length in lengths]
    return [row | {"attention_mask": make(np.ones(len(row["input_ids"]), np.int64))} if masks else row for row in rows]


def check(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Fail unless the batches are equal."""
    for name, value in theirs.items():
        if not (torch.equal(ours[name], value) if isinstance(value, torch.Tensor) else ours[name] == value):
            raise SystemExit(f"{name} differs: no figures")
    if set(ours) != set(theirs):
        raise SystemExit(f"{set(ours) ^ set(theirs)} is in one of the batches alone: no figures")


def compare(lengths: Sequence[int], rounds: int) -> list[Row]:
    """Time both collators on rows of each kind."""
    rows = []
    for kind in KINDS:
        for masks in (False, True):
            batch = examples(lengths, kind, masks=masks)
            collate = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)
            ways = {"scree": scree.hf.PackedCollator(), THEIRS: collate}
            check(*(way(batch) for way in ways.values()))
            ms = medians({name: lambda way=way, batch=batch: way(batch) for name, way in ways.items()}, rounds)
            goal = at_most(GOAL, ms["scree"] / ms[THEIRS])
            rows.append(Row(kind + " and masks" * masks, ms["scree"], THEIRS, ms[THEIRS], goal))
    return rows


if __name__ == "__main__":
    options = arguments(__doc__)
    torch.set_num_threads(1)  # as in the workers of a DataLoader
    tables = {
        f"{n:,} rows, {sum(lengths):,} tokens": compare(lengths, options.rounds) for n, lengths in WORKLOADS.items()
    }
    report("collator", tables, write=options.json, library="transformers")
