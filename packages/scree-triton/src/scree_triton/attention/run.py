"""From tensors to launches: forward and backward on packed values, without a sync and without a copy."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from scree_torch.varlen_attention.options import Options
from scree_triton.alike import alike
from scree_triton.attention.batch import Batch
from scree_triton.attention.configs import Setting, Tile, choose
from scree_triton.attention.kernels.backward import keys_kernel, queries_kernel
from scree_triton.attention.kernels.forward import forward_kernel
from scree_triton.launch import INTERPRETED, Variant, elsewhere, empty, memory, power_of_2

LOG2E = math.log2(math.e)


class Found(NamedTuple):
    """What forward found."""

    out: torch.Tensor
    """``(total_q, heads, head_dim_v)``"""
    lse: torch.Tensor | None
    """``(heads, total_q)`` in float32, if it was asked for."""
    stats: torch.Tensor
    """``(planes, heads, total_q)`` in float32, of which backward rebuilds the weights: the log of the denominators in
    base 2; of float32 input the largest scores in base 2 and the inverse of the denominators below them."""


class Launch(NamedTuple):
    """A kernel that is ready to be launched on arrays of known shapes."""

    variant: Variant
    tiles: torch.Tensor
    programs: int
    numbers: tuple[Any, ...]
    """Strides, sizes and options, as the kernel takes them behind its arrays."""


class Plan:
    """What is decided of a call once its shapes, strides and options are known, to be used by all that are alike.

    It is kept with a batch, so it mustn't hold one.
    """

    __slots__ = ("backward", "forward", "gradients", "lse", "options", "out", "stats")

    def __init__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: Options) -> None:
        total, heads, _ = q.shape
        self.options = options
        self.out = memory((total, heads, v.shape[2]), q.dtype)
        self.lse = memory((heads, total), torch.float32)
        self.stats = memory((planes(q), heads, total), torch.float32)
        self.gradients = tuple(memory(tuple(x.shape), x.dtype) for x in (q, k, v))
        self.forward: dict[bool, Launch] = {}
        """By whether the lse is wanted."""
        self.backward: dict[Any, tuple[Launch, Launch]] = {}
        """By what decides how kernels take the cotangents."""


def plan_of(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch, sinks: torch.Tensor | None, options: Options
) -> Plan:
    """Return the plan for such arrays on the rows of a batch, made when it is first asked for.

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
    """
    aligned = q.data_ptr() % 16, k.data_ptr() % 16, v.data_ptr() % 16
    shapes = q.dtype, q.shape, q.stride(), k.shape, k.stride(), v.shape, v.stride()
    key = sinks is None or sinks.dtype, options, aligned, shapes
    plan = batch.plans.get(key)
    if plan is None:
        plan = batch.plans[key] = Plan(q, k, v, options)
    return plan


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    batch: Batch,
    plan: Plan,
    *,
    want_lse: bool,
) -> Found:
    """Compute attention; two allocations and one launch, and one more allocation with the lse."""
    if elsewhere(q):
        with torch.cuda.device(q.device):
            return forward(q, k, v, sinks, batch, plan, want_lse=want_lse)
    launch = plan.forward.get(want_lse)
    if launch is None:
        launch = plan.forward[want_lse] = _forward_launch(q, k, v, sinks, batch, plan, want_lse=want_lse)
    out, stats = empty(plan.out, q), empty(plan.stats, q)
    lse = empty(plan.lse, q) if want_lse else None
    arrays = q, k, v, out, lse, stats, sinks, batch.q_offsets, batch.k_offsets, launch.tiles
    launch.variant(launch.programs, *arrays, *launch.numbers)
    return Found(out, lse, stats)


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
    """Compute the gradients of q, k, v and the sinks; four allocations and two launches, and a sum with sinks.

    Parameters
    ----------
    d_out : torch.Tensor of shape (total_q, heads, head_dim_v)
        With any strides.
    d_lse : torch.Tensor of shape (total_q, heads), optional
        With any strides.
    q, k, v, sinks, batch, plan
        As given to ``forward``.
    found : Found
        What it returned, with the lse if there are sinks and ``d_lse``.
    """
    if elsewhere(q):
        with torch.cuda.device(q.device):
            return backward(d_out, d_lse, q, k, v, found, sinks, batch, plan)
    key = d_out.dtype, d_out.stride(), d_out.data_ptr() % 16, None if d_lse is None else d_lse.dtype
    launches = plan.backward.get(key)
    if launches is None:
        launches = plan.backward[key] = _backward_launches(d_out, d_lse, q, k, v, sinks, batch, plan)
    queries, keys = launches
    d_q, d_k, d_v = (empty(wanted, q) for wanted in plan.gradients)
    delta = empty(plan.lse, q)
    # Elements behind the last row are nobody's, and the sum goes over all.
    shares = None if sinks is None else torch.zeros(plan.lse.shape, dtype=torch.float32, device=q.device)
    lse_strides = (0, 0) if d_lse is None else d_lse.stride()
    offsets = batch.q_offsets, batch.k_offsets
    out, lse, stats = found
    arrays = q, k, v, out, d_out, d_lse, lse, stats, sinks, delta, shares, d_q, *offsets, queries.tiles
    queries.variant(queries.programs, *arrays, *lse_strides, *queries.numbers)
    keys.variant(keys.programs, q, k, v, d_out, stats, delta, d_k, d_v, *offsets, keys.tiles, *keys.numbers)
    return d_q, d_k, d_v, None if shares is None else shares.sum(1).to(sinks.dtype)  # pyrefly: ignore


def _forward_launch(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    batch: Batch,
    plan: Plan,
    *,
    want_lse: bool,
) -> Launch:
    options = plan.options
    variant, tile = _variant("forward", (q, k, v), (q if want_lse else None, sinks), batch, options)
    tiles = batch.query_tiles(q.shape[0], tile.block_m)
    numbers = *q.stride(), *k.stride(), *v.stride(), q.shape[0], q.shape[1], *_numbers(options)
    return Launch(variant, tiles, tiles.shape[0] * q.shape[1], numbers)


def _backward_launches(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    batch: Batch,
    plan: Plan,
) -> tuple[Launch, Launch]:
    options, arrays = plan.options, (q, k, v, d_out)
    strides = (stride for x in arrays for stride in x.stride())
    numbers = *strides, q.shape[0], q.shape[1], abs(options.scale), *_numbers(options)
    variant, tile = _variant("queries", arrays, (d_lse, sinks), batch, options)
    tiles = batch.query_tiles(q.shape[0], tile.block_m)
    queries = Launch(variant, tiles, tiles.shape[0] * q.shape[1], numbers)
    variant, tile = _variant("keys", arrays, (), batch, options)
    tiles = batch.key_tiles(k.shape[0], tile.block_n)
    return queries, Launch(variant, tiles, tiles.shape[0] * k.shape[1], numbers)


def planes(q: torch.Tensor) -> int:
    """Return how many numbers are kept of each query and head."""
    return 2 if q.dtype == torch.float32 else 1


def _numbers(options: Options) -> tuple[float, float, int, int]:
    """Return the kernels' factor of products and cap, both in base 2, and window."""
    left, right = options.window
    softcap = 1.0 if options.softcap is None else options.softcap * LOG2E
    return (abs(options.scale) or 1.0) * LOG2E, softcap, left, 0 if options.causal else right


def _sign(scale: float) -> int:
    return (scale > 0) - (scale < 0)


_KERNELS: dict[str, Any] = {"forward": forward_kernel, "queries": queries_kernel, "keys": keys_kernel}
_variants: dict[Any, tuple[Variant, Tile]] = {}


def _variant(
    kind: str,
    arrays: tuple[torch.Tensor, ...],
    optional: tuple[torch.Tensor | None, ...],
    batch: Batch,
    options: Options,
) -> tuple[Variant, Tile]:
    """Return a kernel for arrays such as these, whatever their lengths, and the tile that it is compiled for."""
    q, k, v = arrays[:3]
    (left, right), scale = options.window, options.scale
    octave = (k.shape[0] // batch.size).bit_length()
    key = (
        *(kind, octave, options.causal, left < 0, right < 0, _sign(scale), options.softcap is None, q.device),
        *(batch.q_offsets.dtype, batch.k_offsets.dtype),
        *map(alike, optional),
        *((x.shape[1:], x.stride(), *alike(x)) for x in arrays),
    )
    found = _variants.get(key)
    if found is None:
        if len(_variants) >= 4096:  # strides that differ from call to call
            _variants.clear()
        width = power_of_2(max(q.shape[2], v.shape[2]))
        tile = choose(Setting(kind, width, q.element_size(), options.causal), 2 ** (octave - 1), q.device)
        constants = _constants(q, k, v, options) | {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n}
        found = _variants[key] = Variant(_KERNELS[kind], constants, tile.num_warps, tile.num_stages), tile
    return found


def _constants(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: Options) -> dict[str, Any]:
    width = power_of_2(q.shape[2])
    exact, upcast = q.dtype == torch.float32, INTERPRETED and q.dtype == torch.bfloat16
    return {
        "GROUP": q.shape[1] // k.shape[1],
        "D": q.shape[2],
        "DV": v.shape[2],
        "BLOCK_D": width,
        # ptxas 12.8, which Triton 3.6 brings, makes wrong code for values that are narrower than keys and than 64.
        "BLOCK_DV": max(power_of_2(v.shape[2]), min(width, 64)),
        "BLOCK_M": 0,
        "BLOCK_N": 0,
        "LEFT": options.window[0] >= 0,
        "RIGHT": options.causal or options.window[1] >= 0,
        "SIGN": _sign(options.scale),
        "SOFTCAP": options.softcap is not None,
        "EXACT": exact,
        "UPCAST": upcast,
        "PRECISION": "ieee" if exact or upcast else "tf32",
    }
