"""From tensors to launches: forward and backward on packed values, without a sync and without a copy."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from scree_torch.varlen_attention.options import Options
from scree_triton.attention.batch import Batch
from scree_triton.attention.configs import Setting, Tile, choose
from scree_triton.attention.kernels.backward import keys_kernel, queries_kernel
from scree_triton.attention.kernels.forward import forward_kernel
from scree_triton.launch import INTERPRETED, Variant, elsewhere, empty, power_of_2

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


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    batch: Batch,
    sinks: torch.Tensor | None,
    options: Options,
    *,
    want_lse: bool,
) -> Found:
    """Compute attention; two allocations and one launch, and one more allocation with the lse.

    Parameters
    ----------
    q, k, v : torch.Tensor
        Packed, with any strides; none of them empty.
    batch : Batch
        Their rows.
    sinks : torch.Tensor of shape (heads,), optional
        One more logit for each head.
    options : Options
        What to compute.
    want_lse : bool
        Whether to write the lse.
    """
    if elsewhere(q):
        with torch.cuda.device(q.device):
            return forward(q, k, v, batch, sinks, options, want_lse=want_lse)
    key = ("forward", want_lse, sinks is None or sinks.dtype, options, *map(_signature, (q, k, v)))
    launch = batch.launches.get(key)
    if launch is None:
        variant, tile = _variant("forward", (q, k, v), (None if want_lse else q, sinks), batch, options)
        numbers = *q.stride(), *k.stride(), *v.stride(), q.shape[0], q.shape[1], *_numbers(options)
        tiles = batch.query_tiles(q.shape[0], tile.block_m)
        launch = batch.launches[key] = Launch(variant, tiles, tiles.shape[0] * q.shape[1], numbers)
    total, heads, _ = q.shape
    out = empty((total, heads, v.shape[2]), q.dtype, q)
    stats = empty((planes(q), heads, total), torch.float32, q)
    lse = empty((heads, total), torch.float32, q) if want_lse else None
    rows = batch.q_offsets, batch.k_offsets, launch.tiles
    launch.variant(launch.programs, q, k, v, out, lse, stats, sinks, *rows, *launch.numbers)
    return Found(out, lse, stats)


def backward(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    found: Found,
    batch: Batch,
    sinks: torch.Tensor | None,
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Compute the gradients of q, k, v and the sinks; four allocations and two launches, and a sum with sinks.

    Parameters
    ----------
    d_out : torch.Tensor of shape (total_q, heads, head_dim_v)
        With any strides.
    d_lse : torch.Tensor of shape (total_q, heads), optional
        With any strides.
    q, k, v, batch, sinks, options
        As given to ``forward``.
    found : Found
        What it returned, with the lse if there are sinks and ``d_lse``.
    """
    if elsewhere(q):
        with torch.cuda.device(q.device):
            return backward(d_out, d_lse, q, k, v, found, batch, sinks, options)
    kind = d_lse is None or d_lse.dtype, sinks is None or sinks.dtype
    key = ("backward", kind, options, *map(_signature, (q, k, v, d_out)))
    launches = batch.launches.get(key)
    if launches is None:
        launches = batch.launches[key] = _backward_launches(d_out, d_lse, q, k, v, sinks, batch, options)
    queries, keys = launches
    d_q, d_k, d_v = (empty(tuple(x.shape), x.dtype, x) for x in (q, k, v))
    heads, total = found.stats.shape[1:]
    delta = empty((heads, total), torch.float32, q)
    # Elements behind the last row are nobody's, and the sum goes over all.
    shares = None if sinks is None else torch.zeros((heads, total), dtype=torch.float32, device=q.device)
    lse_strides = (0, 0) if d_lse is None else d_lse.stride()
    offsets = batch.q_offsets, batch.k_offsets
    out, lse, stats = found
    queries.variant(
        queries.programs,
        *(q, k, v, out, d_out, d_lse, lse, stats, sinks, delta, shares, d_q, *offsets, queries.tiles),
        *lse_strides,
        *queries.numbers,
    )
    keys.variant(keys.programs, q, k, v, d_out, stats, delta, d_k, d_v, *offsets, keys.tiles, *keys.numbers)
    return d_q, d_k, d_v, None if shares is None else shares.sum(1).to(sinks.dtype)  # pyrefly: ignore


def _backward_launches(
    d_out: torch.Tensor,
    d_lse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    batch: Batch,
    options: Options,
) -> tuple[Launch, Launch]:
    arrays = q, k, v, d_out
    numbers = (
        *(stride for x in arrays for stride in x.stride()),
        *(q.shape[0], q.shape[1], abs(options.scale), *_numbers(options)),
    )
    variant, tile = _variant("queries", arrays, (d_lse, sinks), batch, options)
    tiles = batch.query_tiles(q.shape[0], tile.block_m)
    queries = Launch(variant, tiles, tiles.shape[0] * q.shape[1], numbers)
    variant, tile = _variant("keys", arrays, (), batch, options)
    tiles = batch.key_tiles(k.shape[0], tile.block_n)
    return queries, Launch(variant, tiles, tiles.shape[0] * k.shape[1], numbers)


def _signature(x: torch.Tensor) -> tuple[Any, ...]:
    """Return what decides how a kernel takes an array."""
    return x.dtype, x.shape, x.stride(), x.data_ptr() % 16


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
        *(None if x is None else x.dtype for x in optional),
        *((x.dtype, x.shape[1:], x.stride(), x.data_ptr() % 16) for x in arrays),
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
    exact, upcast = q.dtype == torch.float32, INTERPRETED and q.dtype == torch.bfloat16
    return {
        "GROUP": q.shape[1] // k.shape[1],
        "D": q.shape[2],
        "DV": v.shape[2],
        "BLOCK_D": power_of_2(q.shape[2]),
        "BLOCK_DV": power_of_2(v.shape[2]),
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
