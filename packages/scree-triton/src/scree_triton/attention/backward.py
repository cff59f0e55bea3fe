"""From cotangents to launches: backward on packed values, without a sync and without a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from scree_triton.attention.batch import Batch, Tiles
from scree_triton.attention.check import backward_wanted, check, found_by_composite
from scree_triton.attention.given import Given
from scree_triton.attention.hopper import backward as hopper_backward
from scree_triton.attention.run import Found, Plan
from scree_triton.attention.variants import both_of, numbers_of, variant_of
from scree_triton.launch import Launch, elsewhere, empty

FEW = 12
"""Programs for each multiprocessor, of queries and keys together, up to which one launch does both. On an H100 it then
takes 0.79 to 0.92 of the time of two, and the host 8 us less."""
WIDEST = 64
"""The largest head_dim for which it does: wider ones take 1.06 to 1.3 of the time, for want of registers."""


class Launches(NamedTuple):
    """What backward launches on arrays of one form."""

    queries: Launch
    keys: Launch | None
    """None where one launch does both."""
    query_tiles: Tiles
    key_tiles: Tiles

    def run(
        self,
        arrays: tuple[torch.Tensor, ...],
        d_lse: torch.Tensor | None,
        found: Found,
        sinks: torch.Tensor | None,
        gradients: tuple[torch.Tensor, ...],
        shares: torch.Tensor | None,
        batch: Batch,
        plan: Plan,
    ) -> None:
        """Launch on the current stream of the current device.

        Parameters
        ----------
        arrays : tuple of torch.Tensor
            q, k, v and the gradient of the output.
        d_lse, found, sinks, batch, plan
            As ``backward`` is given them.
        gradients : tuple of torch.Tensor
            Of q, k and v, to be written.
        shares : torch.Tensor of shape (heads, total_q), optional
            Each query's share of the gradient of the sinks, to be written where it is in a row.
        """
        q, k, v, d_out = arrays
        d_q, d_k, d_v = gradients
        out, lse, stats = found
        lse = None if d_lse is None else lse  # which the kernel is compiled for
        offsets, others = batch.q_offsets, batch.k_offsets
        q_tiles, k_tiles = batch.map_of_queries(self.query_tiles), batch.map_of_keys(self.key_tiles)
        if self.keys is None:
            self.queries(q, k, v, out, d_out, stats, sinks, shares, d_q, d_k, d_v, offsets, others, q_tiles, k_tiles)
        else:
            delta = empty(plan.lse, q)
            self.queries(
                *(q, k, v, out, d_out, d_lse, lse, stats, sinks, delta, shares, d_q),
                *(offsets, others, q_tiles),
            )
            self.keys(q, k, v, d_out, stats, delta, d_k, d_v, offsets, others, k_tiles)


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
    """Compute the gradients of q, k, v and the sinks: an allocation for each, one to three launches.

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
        given = Given(q, k, v, d_out, d_lse, sinks, batch, plan.options)
        launches = plan.backward[key] = _launches(given, plan)
    wanted = plan.gradients
    d_q, d_k, d_v = empty(wanted[0], q), empty(wanted[1], q), empty(wanted[2], q)
    # Elements behind the last row are nobody's, and the sum goes over all.
    shares = None if sinks is None else torch.zeros(plan.lse.shape, dtype=torch.float32, device=q.device)
    launches.run((q, k, v, d_out), d_lse, found, sinks, (d_q, d_k, d_v), shares, batch, plan)
    return d_q, d_k, d_v, None if shares is None else shares.sum(1).to(sinks.dtype)  # pyrefly: ignore


def key_of(d_out: torch.Tensor, d_lse: torch.Tensor | None) -> tuple[Any, ...]:
    """Return what decides how kernels take the cotangents, and which ones."""
    of_lse = None if d_lse is None else (d_lse.dtype, d_lse.stride())
    return d_out.stride(), d_out.data_ptr() % 16, of_lse, torch.are_deterministic_algorithms_enabled()


def _launches(given: Given, plan: Plan) -> Launches | hopper_backward.Launches:
    if hopper_backward.takes(given):
        return _by_hopper(given, plan)
    q, k, v, d_out, d_lse, sinks, batch, options = given
    may_merge = d_lse is None and q.dtype != torch.float32 and max(q.shape[2], v.shape[2]) <= WIDEST
    both = both_of((q, k, v, d_out), sinks, batch, options) if may_merge else None  # pyrefly: ignore
    if both is None:
        return one_by_one(given, plan)
    variant, queries, keys = both

    def made(given: Given) -> Launches:
        query_tiles, key_tiles = _tiles(given, queries.block_m, keys.block_n)
        key_programs = key_tiles.most * given.k.shape[1]
        programs = query_tiles.most * given.q.shape[1] + key_programs
        launch = Launch(variant, programs, (*_numbers(given), key_programs))
        return Launches(launch, None, query_tiles, key_tiles)

    query_tiles, key_tiles = _tiles(given, queries.block_m, keys.block_n)
    if query_tiles.most * q.shape[1] + key_tiles.most * k.shape[1] > FEW * _multiprocessors(q.device):
        return one_by_one(given, plan)
    _check("both", variant.told, made, given, plan)
    return made(given)


def _by_hopper(given: Given, plan: Plan) -> hopper_backward.Launches:
    """Return the launches of the kernel for Hopper."""
    told = given.q.shape[2], given.options.causal
    _check("hopper backward", told, hopper_backward.Launches, given, plan)
    return hopper_backward.Launches(given)


def one_by_one(given: Given, plan: Plan) -> Launches:
    """Return a launch for each kernel."""
    q, k, v, d_out, d_lse, sinks, batch, options = given

    def made(given: Given) -> Launches:
        numbers, d_lse = _numbers(given), given.d_lse
        query_tiles, key_tiles = _tiles(given, queries.block_m, keys.block_n)
        lse_strides = (0, 0) if d_lse is None else d_lse.stride()
        first = Launch(of_queries, query_tiles.most * given.q.shape[1], (*lse_strides, *numbers))
        second = Launch(of_keys, key_tiles.most * given.k.shape[1], numbers)
        return Launches(first, second, query_tiles, key_tiles)

    arrays = q, k, v, d_out
    of_queries, queries = variant_of("queries", arrays, (d_lse, sinks), batch, options)  # pyrefly: ignore
    of_keys, keys = variant_of("keys", arrays, (), batch, options)  # pyrefly: ignore
    _check("queries and keys", (of_queries.told, of_keys.told), made, given, plan)
    return made(given)


def _check(name: str, told: Any, made: Callable[[Given], Any], given: Given, plan: Plan) -> None:
    """Try kernels before they are first used, by launches of them that are made for other rows."""

    def tried(small: Given) -> tuple[torch.Tensor | None, ...]:
        arrays, cotangents = (small.q, small.k, small.v), (small.d_out, small.d_lse)
        trial = Plan(*arrays, small.options, plan.want_lse)
        trial.backward[key_of(*cotangents)] = made(small)  # pyrefly: ignore
        found = Found(*found_by_composite(small))
        return backward(*cotangents, *arrays, found, small.sinks, small.batch, trial)  # pyrefly: ignore

    check(name, told, given, tried, backward_wanted)


def _numbers(given: Given) -> tuple[Any, ...]:
    """Return what the kernels take behind their arrays."""
    q, options = given.q, given.options
    strides = [stride for x in given[:4] for stride in x.stride()]  # pyrefly: ignore
    return *strides, q.shape[0], q.shape[1], abs(options.scale), *numbers_of(options)


def _tiles(given: Given, block_m: int, block_n: int) -> tuple[Tiles, Tiles]:
    """Return the tiles of queries, and of keys."""
    batch = given.batch
    return batch.query_tiles(given.q.shape[0], block_m), batch.key_tiles(given.k.shape[0], block_n)


def _multiprocessors(device: torch.device) -> int:
    """Return how many a GPU has; in the interpreter as many as an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132
