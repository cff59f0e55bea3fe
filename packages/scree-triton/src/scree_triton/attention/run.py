"""From tensors to a launch: forward on packed values, without a sync and without a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from scree_core import programs
from scree_torch.varlen_attention.options import Options
from scree_triton.attention import variants
from scree_triton.attention.batch import Batch, Tiles
from scree_triton.attention.check import check, forward_wanted
from scree_triton.attention.given import Given
from scree_triton.attention.hopper import forward as hopper
from scree_triton.attention.told import planes
from scree_triton.attention.variants import numbers_of, variant_of
from scree_triton.launch import Launch, elsewhere, empty, memory


class Found(NamedTuple):
    """What forward found."""

    out: torch.Tensor
    """``(total_q, heads, head_dim_v)``"""
    lse: torch.Tensor | None
    """``(heads, total_q)`` in float32, if it was asked for."""
    stats: torch.Tensor | None
    """``(planes, heads, total_q)`` in float32, of which backward rebuilds the weights: the log of the denominators in
    base 2; of float32 input the largest scores in base 2 and the inverse of the denominators below them. None where
    there is to be no backward."""


class Plan:
    """What is decided of a call by its form, to be used by all that are alike: nothing of it depends on row lengths."""

    __slots__ = ("backward", "forward", "gradients", "lse", "options", "out", "stats", "want_lse")

    def __init__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: Options, want_lse: bool) -> None:
        total, heads, _ = q.shape
        self.options = options
        self.want_lse = want_lse
        self.out = memory((total, heads, v.shape[2]), q.dtype)
        self.lse = memory((heads, total), torch.float32)
        self.stats = memory((planes(q.element_size()), heads, total), torch.float32)
        self.gradients = tuple(memory(tuple(x.shape), x.dtype) for x in (q, k, v))
        self.forward: dict[bool, tuple[Launch | hopper.Launch, Tiles]] = {}
        """By whether there is to be a backward: the launch, and its tiles of queries."""
        self.backward: dict[Any, Any] = {}
        """By what decides how kernels take the cotangents, what ``backward`` keeps."""


MOST = 4096
"""Plans that are kept; a stream of ever new shapes starts over."""

_plans: dict[Any, Plan] = {}


def renew() -> None:
    """Plan all calls anew from now on: tiles have changed."""
    _plans.clear()
    variants.forget()
    programs.forget()


def plan_of(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    batch: Batch,
    sinks: torch.Tensor | None,
    options: Options,
    *,
    want_lse: bool,
) -> Plan:
    """Return the plan for such arrays on such rows, made when it is first asked for.

    Parameters
    ----------
    q, k, v : torch.Tensor
        Packed, with any strides, of one dtype; none of them empty.
    batch : Batch
        Their rows.
    sinks : torch.Tensor of shape (heads,), optional
        One more logit for each head.
    options : Options
        What to compute.
    want_lse : bool
        Whether the lse is returned.
    """
    aligned = q.data_ptr() % 16, k.data_ptr() % 16, v.data_ptr() % 16
    shapes = q.dtype, q.shape, q.stride(), k.shape, k.stride(), v.shape, v.stride()
    rows = batch.size, batch.maxima, batch.q_offsets.dtype, batch.k_offsets.dtype
    key = sinks is None or sinks.dtype, options, want_lse, aligned, shapes, rows, q.device
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= MOST:
            _plans.clear()
        plan = _plans[key] = Plan(q, k, v, options, want_lse)
    return plan


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    batch: Batch,
    plan: Plan,
    *,
    learns: bool,
) -> Found:
    """Compute attention by one launch and an allocation for each result; the stats are one where it ``learns``."""
    if elsewhere(q):
        with torch.cuda.device(q.device):
            return forward(q, k, v, sinks, batch, plan, learns=learns)
    found = plan.forward.get(learns)
    if found is None:
        given = Given(q, k, v, None, None, sinks, batch, plan.options)
        found = plan.forward[learns] = _forward_launch(given, plan, learns=learns)
    launch, tiles = found
    out = empty(plan.out, q)
    lse = empty(plan.lse, q) if plan.want_lse else None
    stats = empty(plan.stats, q) if learns else None
    launch(q, k, v, out, lse, stats, sinks, batch.q_offsets, batch.k_offsets, batch.map_of_queries(tiles))
    return Found(out, lse, stats)


def _forward_launch(given: Given, plan: Plan, *, learns: bool) -> tuple[Launch | hopper.Launch, Tiles]:
    q, k, v, _, _, sinks, batch, options = given
    if not hopper.takes(q, k, v, batch, options):
        return plain_launch(given, plan, learns=learns)

    def made(given: Given) -> tuple[hopper.Launch, Tiles]:
        q, k, v, _, _, _, batch, options = given
        tiles = batch.query_tiles(q.shape[0], hopper.BLOCK_M)
        return hopper.Launch(q, k, v, optional, batch, options, tiles.most), tiles

    optional = q if plan.want_lse else None, q if learns else None, sinks
    _check("hopper", (options.causal, plan.want_lse, learns), made, given, plan, learns=learns)
    return made(given)


def plain_launch(given: Given, plan: Plan, *, learns: bool) -> tuple[Launch, Tiles]:
    """Return a launch of the kernel for all GPUs, and its tiles of queries."""
    q, k, v, _, _, sinks, batch, options = given

    def made(given: Given) -> tuple[Launch, Tiles]:
        q, k, v, _, _, _, batch, options = given
        numbers = *q.stride(), *k.stride(), *v.stride(), q.shape[0], q.shape[1], *numbers_of(options)
        tiles = batch.query_tiles(q.shape[0], tile.block_m)
        return Launch(variant, tiles.most * q.shape[1], numbers), tiles

    optional = q if plan.want_lse else None, q if learns else None, sinks
    variant, tile = variant_of("forward", (q, k, v), optional, batch, options)
    _check("forward", (variant.told, plan.want_lse, learns), made, given, plan, learns=learns)
    return made(given)


def _check(name: str, told: Any, made: Callable[[Given], Any], given: Given, plan: Plan, *, learns: bool) -> None:
    """Try a kernel before it is first used, by launches of it that are made for other rows."""

    def tried(small: Given) -> tuple[torch.Tensor | None, ...]:
        arrays = small.q, small.k, small.v
        trial = Plan(*arrays, small.options, plan.want_lse)
        trial.forward[learns] = made(small)
        return forward(*arrays, small.sinks, small.batch, trial, learns=learns)[:2]

    check(name, told, given, tried, forward_wanted)
