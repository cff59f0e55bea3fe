"""Tuning attention for one's own shapes: every candidate's tile runs, and the fastest that is right is kept."""

from __future__ import annotations

import datetime
import statistics
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import triton

from scree_core.errors import ArgumentError, UnsupportedError
from scree_core.layout import Layout
from scree_core.tune import TunedKernel, Tuning
from scree_torch.tracing import is_real
from scree_torch.varlen_attention.options import Options
from scree_triton.attention import configs, run, tuned
from scree_triton.attention.backward import Launches, backward, key_of, one_by_one
from scree_triton.attention.batch import Batch
from scree_triton.attention.candidates import candidates
from scree_triton.attention.choice import choose, setting_of
from scree_triton.attention.configs import Setting, Tile
from scree_triton.attention.given import Given
from scree_triton.attention.hopper import backward as hopper_backward
from scree_triton.attention.hopper import forward as hopper_forward
from scree_triton.attention.operators import is_empty
from scree_triton.attention.told import typical_length
from scree_triton.launch import INTERPRETED, Launch, on_device_of

NOISE = 0.98
"""A tile that takes more of the time than this isn't taken instead of the one that there was."""
FINALISTS, ROUNDS = 3, 3
"""How many are measured again beside the one that there was, and how often."""

Run = Callable[[], tuple[torch.Tensor, ...]]
Timer = Callable[[Run], float]


class Result(NamedTuple):
    """What was measured of one kernel."""

    setting: Setting
    mean: float
    default: Tile
    best: Tile
    ms: dict[Tile, float]
    """Of each tile that gave the right result."""


class Bench:
    """A call, each of whose kernels can be run with any tile.

    Parameters
    ----------
    q, k, v, batch, sinks, options
        As ``run.forward`` takes them, on the current device.
    want_lse : bool
        Whether forward also returns the lse.
    """

    def __init__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        batch: Batch,
        sinks: torch.Tensor | None,
        options: Options,
        *,
        want_lse: bool = False,
    ) -> None:
        self.q, self.k, self.v = q.detach(), k.detach(), v.detach()
        self.batch, self.options, self.want_lse = batch, options, want_lse
        self.sinks = None if sinks is None else sinks.detach()
        self.mean = typical_length(k.shape[0], batch.size)
        self.architecture = configs.architecture_of(q.device)
        self._own = run.Plan(self.q, self.k, self.v, options, want_lse)
        self._found: run.Found | None = None
        self._d_out: torch.Tensor | None = None

    @property
    def scope(self) -> str:
        """The device, and the calls that run with what is found here."""
        device = torch.cuda.get_device_name(self.q.device) if self.q.is_cuda else str(self.q.device)
        setting = self.setting("forward")
        dims = f"head_dim {setting.width // 2 + 1} to {setting.width}" if setting.width > 16 else "head_dim up to 16"
        mask = "causal" if setting.causal else "not causal"
        rows = f"rows of {int(self.mean)} to {int(2 * self.mean) - 1} keys on average"
        return f"{device}: {8 * setting.itemsize} bits, {dims}, {mask}, {rows}"

    def setting(self, kind: str) -> Setting:
        """Return the setting of a kernel."""
        return setting_of(kind, self.q, self.v, self.options.causal)

    def default(self, kind: str) -> Tile:
        """Return the tile that a kernel has now."""
        return choose(self.setting(kind), self.mean, self.q.device)

    def prepare(self, kind: str, tile: Tile) -> tuple[Run, Run]:
        """Return a function that runs a kernel and returns what it wrote, and one that is to be timed."""
        if kind == "forward":
            call = self._forward(tile)
            return call, call
        return self._backward(kind, tile, alone=False), self._backward(kind, tile, alone=True)

    def _forward(self, tile: Tile) -> Run:
        plan = self._plan()
        launch, _ = self._own.forward[True]
        tiles = self.batch.query_tiles(self.q.shape[0], tile.block_m)
        plan.forward[True] = _changed(launch, tiles.most * self.q.shape[1], tile), tiles  # pyrefly: ignore
        arrays = self.q, self.k, self.v, self.sinks, self.batch, plan
        return lambda: (run.forward(*arrays, learns=True).out,)

    def _backward(self, kind: str, tile: Tile, *, alone: bool) -> Run:
        """Return a call of both kernels, one of them with a tile; alone, the other one has no programs.

        Then the kernel of the keys reads numbers that nobody has written: they don't change its time.
        """
        plan = self._plan(gradient=True)
        ((key, launches),) = self._own.backward.items()
        queries, keys, query_tiles, key_tiles = launches
        if kind == "queries":
            query_tiles = self.batch.query_tiles(self.q.shape[0], tile.block_m)
            queries = _changed(queries, query_tiles.most * self.q.shape[1], tile)
            keys = keys.of_programs(0) if alone else keys
        else:
            key_tiles = self.batch.key_tiles(self.k.shape[0], tile.block_n)
            keys = _changed(keys, key_tiles.most * self.k.shape[1], tile)
            queries = queries.of_programs(0) if alone else queries
        plan.backward[key] = Launches(queries, keys, query_tiles, key_tiles)
        written = slice(0, 1) if kind == "queries" else slice(1, 3)
        return lambda: self._differentiate(plan)[written]

    def _plan(self, *, gradient: bool = False) -> run.Plan:
        """Return a plan without launches; before the first, the call runs as it is, which decides about launches."""
        inputs = self.q, self.k, self.v
        if self._found is None:
            given = Given(*inputs, None, None, self.sinks, self.batch, self.options)
            self._own.forward[True] = run.plain_launch(given, self._own, learns=True)
            self._found = run.forward(*inputs, self.sinks, self.batch, self._own, learns=True)
        if gradient and self._d_out is None:
            out = self._found.out
            generator = torch.Generator(out.device).manual_seed(0)
            drawn = torch.randn(out.shape, generator=generator, device=out.device)
            self._d_out = drawn.to(out.dtype)
            given = Given(*inputs, self._d_out, None, None, self.batch, self.options)
            self._own.backward[key_of(self._d_out, None)] = one_by_one(given, self._own)
            self._differentiate(self._own)
        return run.Plan(*inputs, self.options, self.want_lse)

    def _differentiate(self, plan: run.Plan) -> tuple[torch.Tensor, ...]:
        # Without the sinks, whose own gradient is a sum that PyTorch computes.
        inputs = self.q, self.k, self.v, self._found, None
        return backward(self._d_out, None, *inputs, self.batch, plan)[:3]  # pyrefly: ignore


def _changed(launch: Launch, programs: int, tile: Tile) -> Launch:
    return launch.changed(programs, {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n}, tile.options)


def milliseconds(call: Run) -> float:
    """Return the median time of a call on the device, whose caches are emptied before."""
    from triton.testing import do_bench

    return do_bench(call, warmup=5, rep=20, return_mode="median")  # pyrefly: ignore[bad-return]


def measure(bench: Bench, kind: str, time: Timer, tiles: list[Tile] | None = None) -> Result:
    """Time the candidates' tiles for a kernel, those whose results agree with that of the tile that it has.

    Parameters
    ----------
    bench : Bench
        The call.
    kind : str
        One of ``configs.KINDS``.
    time : callable
        Returns what a call takes, such as ``milliseconds``.
    tiles : list of Tile, optional
        Instead of the candidates.

    Raises
    ------
    ArgumentError
        The results aren't finite, so that nothing can be compared.
    """
    setting, default = bench.setting(kind), bench.default(kind)
    check, timed = bench.prepare(kind, default)
    wanted = check()
    if not all(bool(x.isfinite().all()) for x in wanted):
        raise ArgumentError("tune compares results, and those of these arrays aren't finite: give it finite values")
    calls, ms = {default: timed}, {default: time(timed)}
    for tile in tiles or candidates(setting, bench.architecture, default):
        if tile in calls:
            continue
        try:
            check, timed = bench.prepare(kind, tile)
            if agree(check(), wanted):
                ms[tile], calls[tile] = time(timed), timed
        except (triton.TritonError, RuntimeError):  # it doesn't compile, or takes more memory than there is
            continue
    first = [default, *sorted(set(ms) - {default}, key=ms.__getitem__)[:FINALISTS]]
    again: dict[Tile, list[float]] = {tile: [] for tile in first}
    for _ in range(ROUNDS if len(first) > 1 else 0):
        for tile in first:
            again[tile].append(time(calls[tile]))
    ms |= {tile: statistics.median(times) for tile, times in again.items() if times}
    best = min(first, key=ms.__getitem__)
    return Result(setting, bench.mean, default, best if ms[best] < NOISE * ms[default] else default, ms)


def agree(found: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...]) -> bool:
    """Tell whether results differ by rounding alone: by a few times that of their dtype, in the mean square."""
    for x, y in zip(found, wanted, strict=True):
        most = torch.finfo(y.dtype).eps * (64 if y.dtype == torch.float32 else 4)
        x, y = x.float(), y.float()
        if not bool((x - y).norm() <= most * y.norm()):
            return False
    return True


def keep(results: list[Result], device: torch.device) -> Path | None:
    """Use the best tiles from now on, and write them to the user's file; return where that is."""
    today = datetime.date.today().isoformat()
    found = {
        configs.name_of(result.setting, result.mean): {
            "tile": list(result.best.numbers),
            "ms": round(result.ms[result.best], 5),
            "was": list(result.default.numbers),
            "was_ms": round(result.ms[result.default], 5),
            "date": today,
        }
        for result in results
    }
    path = tuned.keep(found, device, configs.architecture_of(device))
    run.renew()
    return path


def tune(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_layout: Layout[torch.Tensor],
    k_layout: Layout[torch.Tensor],
    sinks: torch.Tensor | None,
    options: Options,
    *,
    want_lse: bool,
    gradient: bool,
    time: Timer | None = None,
) -> Tuning:
    """Tune the kernels of a call: ``scree.tune`` for ``varlen_attention``.

    Calls are alike, and run with the result, if their kernels have the same larger head dimension up to a power of
    2, the same size of an element and the same ``causal``, and their rows as many keys on average up to a power of 2.

    Parameters
    ----------
    q, k, v, q_layout, k_layout, sinks, options
        As ``varlen_attention`` takes them.
    want_lse, gradient : bool
        Whether the lse is wanted, and whether the kernels of backward are tuned even if nothing asks for a gradient.
    time : callable, optional
        Returns what a call takes, in place of the device's own time.

    Raises
    ------
    ArgumentError
        There is nothing to measure, or nothing to choose from.
    UnsupportedError
        The arrays are a trace's, or a CUDA graph is being captured.
    """
    if not is_real(q) or (q.is_cuda and torch.cuda.is_current_stream_capturing()):
        raise UnsupportedError(
            "tune measures: call it outside transforms, compiled code and the capture of CUDA graphs"
        )
    if is_empty(q, k, v, q_layout.offsets):
        raise ArgumentError(f"there is nothing to tune for {tuple(q.shape)} queries and {tuple(k.shape)} keys")
    batch = Batch(q_layout.offsets, k_layout.offsets, q_layout.max_length, k_layout.max_length)
    bench = Bench(q, k, v, batch, sinks, options, want_lse=want_lse)
    kinds = configs.KINDS if gradient or q.requires_grad or k.requires_grad or v.requires_grad else ("forward",)
    kinds = tuple(kind for kind in kinds if kind not in _hoppers(q, k, v, batch, options))
    if not kinds:
        raise ArgumentError(
            "there is nothing to tune: so big a call goes to kernels for Hopper, which have one tile each"
        )
    results = measured(bench, kinds, milliseconds if time is None else time)
    path = keep(results, q.device)
    return Tuning(
        "varlen_attention", "torch.triton", bench.scope, tuple(map(_line_of, results)), str(path) if path else None
    )


def _line_of(result: Result) -> TunedKernel:
    setting, _, default, best, ms = result
    return TunedKernel(setting.kind, str(default), ms[default], str(best), ms[best], len(ms))


_here = threading.local()


def _hoppers(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch, options: Options) -> tuple[str, ...]:
    """Return the kinds of kernels that a call does without, for those for Hopper run it."""
    d_out = torch.empty((*q.shape[:2], v.shape[2]), dtype=q.dtype, device="meta")  # as it usually lies
    found = ("forward",) if hopper_forward.takes(q, k, v, batch, options) else ()
    given = Given(q, k, v, d_out, None, None, batch, options)
    return (*found, *configs.KINDS[1:]) if hopper_backward.takes(given) else found


def tune_new(kind: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch, options: Options) -> None:
    """Tune a kernel unless that has been done: what ``SCREE_TUNE`` asks for.

    Nothing happens in the interpreter and while a CUDA graph is captured.
    """
    if INTERPRETED or not q.is_cuda or torch.cuda.is_current_stream_capturing() or getattr(_here, "busy", False):
        return
    bench = Bench(q, k, v, batch, None, options)
    name = configs.name_of(bench.setting(kind), bench.mean)
    if tuned.find(name, q.device, bench.architecture) is None:
        keep(measured(bench, (kind,)), q.device)


def measured(bench: Bench, kinds: tuple[str, ...], time: Timer = milliseconds) -> list[Result]:
    """Measure kernels on the device of a call, without a gradient, and without tuning what that runs in turn."""
    _here.busy = True
    try:
        with torch.no_grad(), on_device_of(bench.q):
            return [measure(bench, kind, time) for kind in kinds]
    finally:
        _here.busy = False
