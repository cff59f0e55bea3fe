"""What packing a million rows of log-normal length costs and how full the bins are, against TRL's where installed.

Rows longer than a bin are split, which loses nothing. TRL's ``pack_dataset`` moves the tokens too, of one byte here; by
default it packs a thousand rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from harness import Row, arguments, at_most, medians, report

from scree.packing import Packer, Packing, pack_lengths

ROWS, CAPACITY = 1_000_000, 4096
GOAL_S, GOAL_FILL = 10, 0.99
FILLING = ("bfd", "ffd", "concat")
"""Those that are to reach the goal; "next" keeps rows whole and in order."""


def lengths_of_texts(rows: int) -> np.ndarray:
    """Return log-normal lengths: median 245, mean 403, a few thousand above the capacity."""
    return np.random.default_rng(0).lognormal(5.5, 1.0, rows).astype(np.int64)


def trl_dataset(lengths: np.ndarray) -> Any:
    """Return a data set of rows of these lengths, all zeros."""
    import pyarrow
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = pyarrow.array(np.zeros(offsets[-1], np.int8))
    return Dataset(pyarrow.table({"input_ids": pyarrow.LargeListArray.from_arrays(pyarrow.array(offsets), values)}))


def trl_packers(lengths: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return TRL's ways, as its users call them and with all rows at once."""
    from trl import pack_dataset

    data = trl_dataset(lengths)

    def packs(strategy: str, at_once: int) -> Callable[[], Any]:
        options = {"batch_size": at_once, "keep_in_memory": True, "load_from_cache_file": False}
        return lambda: pack_dataset(data, CAPACITY, strategy, map_kwargs=options)

    return {
        "TRL bfd_split": packs("bfd_split", 1000),
        "TRL bfd_split, all rows at once": packs("bfd_split", len(lengths)),
        "TRL wrapped": packs("wrapped", 1000),
    }


def stream(lengths: np.ndarray) -> list[Any]:
    """Return the bins of the streaming packer."""
    packer = Packer(CAPACITY, over="split")
    return [bin for length in lengths.tolist() for bin in packer.add(length)] + packer.flush()


def check(packing: Packing, lengths: np.ndarray) -> None:
    """Fail unless every element is in a bin and no bin is too full."""
    assert packing.totals.max() <= CAPACITY
    assert np.array_equal(np.bincount(packing.indices, packing.lengths, len(lengths)), lengths)


def compare(rounds: int) -> dict[str, list[Row]]:
    """Time each algorithm next to sorting the lengths, or TRL, and count the bins."""
    lengths = lengths_of_texts(ROWS)
    ours = {a: lambda a=a: pack_lengths(lengths, CAPACITY, a, over="split") for a in (*FILLING, "next")}
    for run in ours.values():
        check(run(), lengths)
    candidates = {**ours, "Packer, 64 open": lambda: stream(lengths), "sort": lambda: np.sort(lengths)}
    theirs = trl_packers(lengths) if find_spec("trl") else {}
    bins: dict[str, int] = {}

    def counting(name: str, run: Callable[[], Any]) -> Callable[[], Any]:
        def count() -> Any:
            packed = run()
            bins[name] = len(packed)
            return packed

        return count

    ms = medians({name: counting(name, run) for name, run in {**candidates, **theirs}.items()}, rounds)
    del bins["sort"]
    fewest = -(-int(lengths.sum()) // CAPACITY)
    times, counts = [], []
    for name in [*candidates][:-1]:
        for other in theirs or ("sort",):
            times.append(Row(name, ms[name], other, ms[other], at_most(GOAL_S, ms[name] / 1e3, " s")))
    for name, count in bins.items():
        fill = int(lengths.sum()) / (count * CAPACITY)
        goal = f"; goal >= {GOAL_FILL:g}: {'met' if fill >= GOAL_FILL else 'MISSED'}" if name in FILLING else ""
        counts.append(Row(name, count, "the fewest possible", fewest, f"fill {fill:.5f}{goal}", "bins"))
    for name in theirs:
        if bins[name] < bins["bfd"]:
            raise SystemExit(f"{name} needs {bins[name]} bins, bfd {bins['bfd']}")
    title = f"{ROWS:,} rows, {int(lengths.sum()):,} elements, bins of {CAPACITY:,}"
    return {f"{title}: time": times, f"{title}: bins": counts}


if __name__ == "__main__":
    options = arguments(__doc__)
    tables = compare(options.rounds)
    report("packing", tables, write=options.json, library="trl" if find_spec("trl") else "")
