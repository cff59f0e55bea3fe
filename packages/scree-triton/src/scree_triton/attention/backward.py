"""From cotangents to launches: backward on packed values, without a sync and without a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from scree_torch.varlen_attention.options import Options
from scree_triton.attention.batch import Batch
from scree_triton.attention.check import Small, backward_wanted, check, found_by_composite
from scree_triton.attention.run import Found, Plan
from scree_triton.attention.variants import both_of, numbers_of, variant_of
from scree_triton.launch import Launch, elsewhere, empty

FEW = 12
"""Programs for each multiprocessor, of queries and keys together, up to which one launch does both. On an H100 it then
takes 0.79 to 0.92 of the time of two, and the host 8 us less."""
WIDEST = 64
"""The largest head_dim for which it does: wider ones take 1.06 to 1.3 of the time, for want of registers."""


class Tiles(NamedTuple):
    """Tiles of one side."""

    most: int
    """How many there may be."""
    block: int
    """Queries, or keys, of each."""


class Launches(NamedTuple):
    """What backward launches."""

    queries: Launch
    keys: Launch | None
    """None where one launch does both."""
    query_tiles: Tiles
    key_tiles: Tiles


def backward(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    found: Found,
    sinks: torch.Tensor | None,
    batch: Batch,
    plan: Plan,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Compute the gradients of q, k, v and the sinks: an allocation for each, one or two launches, a sum with sinks.

    Parameters
    ----------
    d_out : torch.Tensor of shape (total_q, heads, head_dim_v)
        With any strides.
    d_lse : torch.Tensor of shape (total_q, heads), optional
        With any strides.
    q, k, v, sinks, batch, plan
        As given to ``forward``.
    found : Found
        What it returned: the stats, and the lse if there are sinks and ``d_lse``.
    """
    if elsewhere(q):
        with torch.cuda.device(q.device):
            return backward(d_out, d_lse, q, k, v, found, sinks, batch, plan)
    key = key_of(d_out, d_lse)
    launches = plan.backward.get(key)
    if launches is None:
        launches = plan.backward[key] = _launches(d_out, d_lse, q, k, v, sinks, batch, plan)
    queries, keys, query_tiles, key_tiles = launches
    wanted = plan.gradients
    d_q, d_k, d_v = empty(wanted[0], q), empty(wanted[1], q), empty(wanted[2], q)
    # Elements behind the last row are nobody's, and the sum goes over all.
    shares = None if sinks is None else torch.zeros(plan.lse.shape, dtype=torch.float32, device=q.device)
    offsets, others = batch.q_offsets, batch.k_offsets
    q_tiles, k_tiles = batch.query_tiles(*query_tiles), batch.key_tiles(*key_tiles)
    out, lse, stats = found
    lse = None if d_lse is None else lse  # which the kernel is compiled for
    if keys is None:
        queries(q, k, v, out, d_out, stats, sinks, shares, d_q, d_k, d_v, offsets, others, q_tiles, k_tiles)
    else:
        delta = empty(plan.lse, q)
        queries(
            *(q, k, v, out, d_out, d_lse, lse, stats, sinks, delta, shares, d_q),
            *(offsets, others, q_tiles),
        )
        keys(q, k, v, d_out, stats, delta, d_k, d_v, offsets, others, k_tiles)
    return d_q, d_k, d_v, None if shares is None else shares.sum(1).to(sinks.dtype)  # pyrefly: ignore


def key_of(d_out: torch.Tensor, d_lse: torch.Tensor | None) -> tuple[Any, ...]:
    """Return what decides how kernels take the cotangents."""
    return d_out.stride(), d_out.data_ptr() % 16, None if d_lse is None else (d_lse.dtype, d_lse.stride())


def _launches(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    batch: Batch,
    plan: Plan,
) -> Launches:
    may_merge = d_lse is None and q.dtype != torch.float32 and max(q.shape[2], v.shape[2]) <= WIDEST
    both = both_of((q, k, v, d_out), sinks, batch, plan.options) if may_merge else None
    if both is None:
        return one_by_one(d_out, d_lse, q, k, v, sinks, batch, plan)
    variant, queries, keys = both

    def made(
        d_out: torch.Tensor,
        d_lse: torch.Tensor | None,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        batch: Batch,
        options: Options,
    ) -> tuple[Launches, int]:
        query_tiles, key_tiles = _tiles(q, k, batch, queries.block_m, keys.block_n)
        key_programs = key_tiles.most * k.shape[1]
        programs = query_tiles.most * q.shape[1] + key_programs
        launch = Launch(variant, programs, (*_numbers(q, k, v, d_out, options), key_programs))
        return Launches(launch, None, query_tiles, key_tiles), programs

    launches, programs = made(d_out, d_lse, q, k, v, batch, plan.options)
    if programs > FEW * _multiprocessors(q.device):
        return one_by_one(d_out, d_lse, q, k, v, sinks, batch, plan)
    _check("both", variant.told, lambda *small: made(*small)[0], d_out, d_lse, q, k, v, sinks, batch, plan)
    return launches


def one_by_one(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    batch: Batch,
    plan: Plan,
) -> Launches:
    """Return a launch for each kernel; parameters are those of ``backward``."""

    def made(
        d_out: torch.Tensor,
        d_lse: torch.Tensor | None,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        batch: Batch,
        options: Options,
    ) -> Launches:
        numbers = _numbers(q, k, v, d_out, options)
        query_tiles, key_tiles = _tiles(q, k, batch, queries.block_m, keys.block_n)
        lse_strides = (0, 0) if d_lse is None else d_lse.stride()
        first = Launch(of_queries, query_tiles.most * q.shape[1], (*lse_strides, *numbers))
        return Launches(first, Launch(of_keys, key_tiles.most * k.shape[1], numbers), query_tiles, key_tiles)

    arrays = q, k, v, d_out
    of_queries, queries = variant_of("queries", arrays, (d_lse, sinks), batch, plan.options)
    of_keys, keys = variant_of("keys", arrays, (), batch, plan.options)
    _check("queries and keys", (of_queries.told, of_keys.told), made, d_out, d_lse, q, k, v, sinks, batch, plan)
    return made(d_out, d_lse, q, k, v, batch, plan.options)


def _check(
    name: str,
    told: Any,
    made: Callable[..., Launches],
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    batch: Batch,
    plan: Plan,
) -> None:
    """Try kernels before they are first used, by launches of them that are made for other rows."""

    def tried(small: Small) -> tuple[torch.Tensor | None, ...]:
        arrays, cotangents = (small.q, small.k, small.v), (small.d_out, small.d_lse)
        trial = Plan(*arrays, small.options, plan.want_lse)
        trial.backward[key_of(*cotangents)] = made(*cotangents, *arrays, small.batch, small.options)  # pyrefly: ignore
        found = Found(*found_by_composite(small))
        return backward(*cotangents, *arrays, found, small.sinks, small.batch, trial)  # pyrefly: ignore

    check(name, told, (q, k, v, d_out, d_lse, sinks), batch, plan.options, tried, backward_wanted)


def _numbers(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, d_out: torch.Tensor, options: Options
) -> tuple[Any, ...]:
    """Return what the kernels take behind their arrays."""
    strides = [stride for x in (q, k, v, d_out) for stride in x.stride()]
    return *strides, q.shape[0], q.shape[1], abs(options.scale), *numbers_of(options)


def _tiles(q: torch.Tensor, k: torch.Tensor, batch: Batch, block_m: int, block_n: int) -> tuple[Tiles, Tiles]:
    """Return the tiles of queries, and of keys."""
    most = batch.most_query_tiles(q.shape[0], block_m), batch.most_key_tiles(k.shape[0], block_n)
    return Tiles(most[0], block_m), Tiles(most[1], block_n)


def _multiprocessors(device: torch.device) -> int:
    """Return how many a GPU has; in the interpreter as many as an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132
