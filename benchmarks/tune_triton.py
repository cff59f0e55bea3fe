"""Fill scree-triton's table of tiles for the GPU that is there: every candidate, timed beside the tile in use.

    python benchmarks/tune_triton.py --seconds 240

Writes the architecture's section of ``tiles.json``, whose other rows stay, and all times to ``results/``. What that
file holds of the same day, device and versions isn't measured again, so that a sweep can be cut short and continued.

A tile that is less than ``MARGIN`` slower than the best is as good: of such the one in use stays, and one tile for all
lengths of rows is preferred to several. Candidates are compiled beforehand, by as many processes as there are cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from harness import RESULTS
from triton_attention import environment
from workloads import log_normal

from scree_core.layout import Layout
from scree_torch.varlen_attention.options import Options
from scree_triton.attention import configs
from scree_triton.attention.batch import Batch
from scree_triton.attention.candidates import candidates
from scree_triton.attention.configs import KINDS, Setting, Tile
from scree_triton.attention.tuning import Bench, measure, milliseconds

TABLES = Path(configs.__file__).with_name("tiles.json")
DTYPES = {2: torch.bfloat16, 4: torch.float32}
HEADS = (16, 4)
"""Small batches leave multiprocessors idle, which large tiles pay for: a tile has to be good in both."""
MARGIN = 1.03
"""Two measurements of the same kernel on a machine that others share differ by less than this."""


class Job(NamedTuple):
    """A batch to measure on: rows of log-normal lengths."""

    itemsize: int
    width: int
    causal: bool
    mean: int
    heads: int

    def __str__(self) -> str:
        mask = "causal" if self.causal else "full"
        return f"{self.heads} heads x {self.width}, {DTYPES[self.itemsize]}, {mask}, rows of {self.mean}"


Times = dict[Job, dict[str, dict[Tile, float]]]
"""In ms, by kernel and tile; the one in use first."""


def bench(job: Job, lengths: Iterable[int]) -> Bench:
    """Draw q, k and v for rows of these lengths."""
    generator = torch.Generator("cuda").manual_seed(0)
    offsets = torch.tensor([0, *lengths]).cumsum(0).to("cuda", torch.int32)
    shape = int(offsets[-1]), job.heads, job.width
    q, k, v = (torch.randn(shape, generator=generator, device="cuda").to(DTYPES[job.itemsize]) for _ in range(3))
    layout = Layout(offsets, max_length=max(lengths))
    batch = Batch(layout.offsets, layout.offsets, layout.max_length, layout.max_length)
    return Bench(q, k, v, batch, None, Options(job.causal, job.width**-0.5, (-1, -1), None))


def rows_of(job: Job) -> tuple[int, ...]:
    """Return row lengths with exactly the mean of a job, which decides what they are classed with."""
    batch = 16 if job.mean <= 1024 else 8
    lengths = log_normal(batch, job.mean, 0.6)
    scaled = [max(1, length * job.mean * batch // sum(lengths)) for length in lengths]
    return max(scaled) + job.mean * batch - sum(scaled), *sorted(scaled)[:-1]


# ---------------------------------------------------------------------- compilation


def compile_one(task: tuple[Job, str, Tile | None]) -> str | None:
    """Compile a kernel with a tile, or all with those in use; return what is wrong with it."""
    job, kind, tile = task
    try:
        small = bench(job, (job.mean, job.mean))
        for each in KINDS if tile is None else (kind,):
            small.prepare(each, tile or small.default(each))[0]()
        torch.cuda.synchronize()
    except Exception as error:
        return f"{job}: {kind} {tile}: {type(error).__name__}: {str(error)[:100]}"
    return None


def compile_all(jobs: list[Job], processes: int, until: float) -> None:
    """Fill Triton's cache on disk with all that ``measure`` will want."""
    architecture = configs.architecture_of(torch.device("cuda", 0))
    first = [(job, "all", None) for job in jobs]
    tasks: dict[Any, tuple[Job, str, Tile | None]] = {}
    for job in jobs:
        for kind in KINDS:
            setting = Setting(kind, job.width, job.itemsize, job.causal)
            for tile in candidates(setting, architecture, configs.default(setting, job.mean, architecture)):
                tasks.setdefault((setting, tile), (job, kind, tile))
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for stage in (first, [*tasks.values()]):
            found = pool.imap_unordered(compile_one, stage)
            for _ in stage:
                try:
                    reason = found.next(timeout=max(1.0, until - time.perf_counter()))
                except multiprocessing.TimeoutError:
                    return print("no time is left to compile the rest")
                if reason:
                    print(f"  not compiled: {reason}")
    print(f"compiled {len(tasks)} kernels in {time.perf_counter() - start:.0f} s", flush=True)


# ---------------------------------------------------------------------- choice


def settle(times: Times, kind: str, width: int, itemsize: int, means: list[int]) -> list[dict[str, Any]]:
    """Return the rows of the table for a kernel: as few as lose nothing; none before both masks were measured.

    Lengths that weren't measured run with what shorter ones do.
    """
    cells: dict[bool, dict[int, list[dict[Tile, float]]]] = {True: {}, False: {}}
    for causal, mean, heads in itertools.product(cells, means, HEADS):
        if ms := times.get(Job(itemsize, width, causal, mean, heads), {}).get(kind):
            cells[causal].setdefault(mean, []).append(ms)
    head = {"kind": kind, "width": width, "itemsize": itemsize}
    if not all(cells.values()):
        return []
    if (tile := steady([cell for found in cells.values() for cell in found.values()])) is not None:
        return [head | {"mean": 0, "tile": list(tile.numbers)}]
    rows = []
    for causal, found in cells.items():
        tile, before = steady(found.values()), None
        for least, mean in zip([0, *map(between, found, [*found][1:])], found, strict=True):
            chosen = tile or pick(found[mean])
            if chosen != before:
                rows.append(head | {"causal": causal, "mean": least, "tile": list(chosen.numbers)})
            before = chosen
    return rows


def between(mean: int, longer: int) -> int:
    """Return the power of 2 from which on rows are nearer to the longer mean."""
    return 2 ** (math.isqrt(mean * longer).bit_length() - 1)


def steady(cells: Iterable[list[dict[Tile, float]]]) -> Tile | None:
    """Return the tile for all batches together, if it is good for each class of them."""
    cells = list(cells)
    tile = pick([ms for cell in cells for ms in cell])
    return tile if all(loss(tile, cell) <= MARGIN * loss(best_of(cell), cell) for cell in cells) else None


def pick(batches: list[dict[Tile, float]]) -> Tile:
    """Return the tile in use, unless another one is clearly better for these batches."""
    used, best = next(iter(batches[0])), best_of(batches)
    same = all(used == next(iter(ms)) for ms in batches)
    return used if same and loss(used, batches) <= MARGIN * loss(best, batches) else best


def best_of(batches: list[dict[Tile, float]]) -> Tile:
    """Return the tile that loses least."""
    return min(batches[0], key=lambda tile: loss(tile, batches))


def loss(tile: Tile, batches: list[dict[Tile, float]]) -> float:
    """Return a tile's time per that of the best, the geometric mean over batches; infinite where it didn't run."""
    if not all(tile in ms for ms in batches):
        return math.inf
    return math.exp(statistics.fmean(math.log(ms[tile] / min(ms.values())) for ms in batches))


# ---------------------------------------------------------------------- files


def merged(section: dict[str, Any], rows: list[dict[str, Any]], ran_on: dict[str, Any]) -> dict[str, Any]:
    """Return an architecture's section with new rows in the place of those for the same kernels, sizes and widths."""

    def of(row: dict[str, Any]) -> tuple[int, int, str]:
        return row["itemsize"], row["width"], row["kind"]

    new = {of(row) for row in rows}
    kept = [row for row in section.get("tiles", []) if of(row) not in new]
    order = {kind: i for i, kind in enumerate(KINDS)}
    tiles = sorted(kept + rows, key=lambda row: (*of(row)[:2], order[row["kind"]], not row.get("causal"), row["mean"]))
    before = section.get("measured") or {}
    same = all(before.get(key) == value for key, value in ran_on.items() if key not in ("date", "command"))
    reached = {tuple(entry) for entry in before.get("reached", [])} if same else set()
    reached |= {of(row)[:2] for row in rows}
    return {"measured": ran_on | {"reached": sorted(map(list, reached))}, "tiles": tiles}


def written(tables: dict[str, Any]) -> str:
    """Return the text of ``tiles.json``, one row a line."""
    sections = []
    for name, section in tables.items():
        rest = [f"  {json.dumps(key)}: {json.dumps(section[key])}" for key in section if key != "tiles"]
        rows = ",\n".join(f"   {json.dumps(row)}" for row in section["tiles"])
        tiles = f'  "tiles": [\n{rows}\n  ]' if rows else '  "tiles": []'
        sections.append(f" {json.dumps(name)}: {{\n" + ",\n".join([*rest, tiles]) + "\n }")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def save(times: Times, ran_on: dict[str, Any], means: list[int], tables: Path, results: Path) -> None:
    """Write what there is by now."""
    entries = [
        {"job": job._asdict(), "kernel": kind, "ms": {str(tile): round(spent, 5) for tile, spent in ms.items()}}
        for job, kinds in times.items()
        for kind, ms in kinds.items()
    ]
    results.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
    results.write_text(f'{{"environment": {json.dumps(ran_on)},\n "times": [\n{lines}\n]}}\n', encoding="utf-8")
    rows = []
    for kind, width, itemsize in sorted({(k, j.width, j.itemsize) for j, kinds in times.items() for k in kinds}):
        rows += settle(times, kind, width, itemsize, means)
    if rows:
        known = configs.tables()
        architecture = configs.architecture_of(torch.device("cuda", 0))
        section = merged(known.get(architecture, {}), rows, ran_on)
        tables.write_text(written(known | {architecture: section}), encoding="utf-8")


def resumed(results: Path, ran_on: dict[str, Any]) -> Times:
    """Return what an earlier sweep has measured on the same device with the same versions; nothing where none has."""
    times: Times = {}
    if results.exists():
        kept = json.loads(results.read_text(encoding="utf-8"))
        if all(kept["environment"].get(key) == ran_on[key] for key in ran_on if key not in ("date", "command")):
            for entry in kept["times"]:
                ms = {Tile(*map(int, tile.split("x"))): spent for tile, spent in entry["ms"].items()}
                times.setdefault(Job(**entry["job"]), {})[entry["kernel"]] = ms
    return times


def line(job: Job, kind: str, ms: dict[Tile, float]) -> str:
    """Return the times of a kernel, relative to that of the tile in use."""
    used = next(iter(ms))
    others = ", ".join(f"{tile} {ms[tile] / ms[used]:.3f}" for tile in sorted(ms, key=ms.__getitem__))
    return f"{job}: {kind} in use {used} {ms[used]:.4f} ms: {others}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 32, 16, 256])
    parser.add_argument("--itemsizes", type=int, nargs="+", choices=DTYPES, default=[2])
    parser.add_argument("--means", type=int, nargs="+", default=[256, 1024, 4096], help="of row lengths")
    parser.add_argument("--seconds", type=float, default=1200, help="stop after this, with what there is")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that compile")
    parser.add_argument("--tables", type=Path, default=TABLES, help="where the table is written")
    parser.add_argument("--results", type=Path, help="where all times are written")
    given = parser.parse_args()
    until, means = time.perf_counter() + given.seconds, sorted(given.means)
    ran_on = environment()
    results = given.results or RESULTS / f"triton-tiles-{ran_on['date']}.json"
    times = resumed(results, ran_on)
    for itemsize in given.itemsizes:
        jobs = [
            job
            for width in given.widths
            for causal, mean, heads in itertools.product((True, False), means, HEADS)
            if set(times.get(job := Job(itemsize, width, causal, mean, heads), {})) != set(KINDS)
        ]
        compile_all(jobs, given.processes, until)
        for job in jobs:
            drawn = bench(job, rows_of(job))
            for kind in KINDS:
                if time.perf_counter() > until:
                    raise SystemExit(f"no time is left for {job}: {kind}, and for what follows")
                result = measure(drawn, kind, milliseconds)
                times.setdefault(job, {})[kind] = result.ms
                print(line(job, kind, result.ms), flush=True)
            save(times, ran_on, means, given.tables, results)
    print(f"\ntable: {given.tables.name}, all times: {results.name}")


if __name__ == "__main__":
    main()
