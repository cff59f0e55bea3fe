"""Which kernel is launched on arrays of some form: what it is compiled for."""

from __future__ import annotations

import math
from typing import Any

import torch

from scree_torch.varlen_attention.options import Options
from scree_triton.alike import alike
from scree_triton.attention.batch import Batch
from scree_triton.attention.configs import Setting, Tile, choose
from scree_triton.attention.kernels.both import both_kernel
from scree_triton.attention.kernels.forward import forward_kernel
from scree_triton.attention.kernels.keys import keys_kernel
from scree_triton.attention.kernels.queries import queries_kernel
from scree_triton.launch import INTERPRETED, Variant, power_of_2

LOG2E = math.log2(math.e)
MOST = 4096
"""Variants that are kept; a stream of ever new strides starts over."""


def numbers_of(options: Options) -> tuple[float, float, int, int]:
    """Return the kernels' factor of products and cap, both in base 2, and window."""
    left, right = options.window
    softcap = 1.0 if options.softcap is None else options.softcap * LOG2E
    return (abs(options.scale) or 1.0) * LOG2E, softcap, left, 0 if options.causal else right


def _sign(scale: float) -> int:
    return (scale > 0) - (scale < 0)


_KERNELS: dict[str, Any] = {"forward": forward_kernel, "queries": queries_kernel, "keys": keys_kernel}
_variants: dict[Any, tuple[Variant, Tile]] = {}
_both: dict[Any, tuple[Variant, Tile, Tile] | None] = {}


def variant_of(
    kind: str,
    arrays: tuple[torch.Tensor, ...],
    optional: tuple[torch.Tensor | None, ...],
    batch: Batch,
    options: Options,
) -> tuple[Variant, Tile]:
    """Return a kernel for arrays such as these, whatever their lengths, and the tile that it is compiled for.

    Parameters
    ----------
    kind : str
        One of ``configs.KINDS``.
    arrays : tuple of torch.Tensor
        q, k, v, and for the kernels of backward the gradient of the output.
    optional : tuple of torch.Tensor or None
        Other arrays that a call may have.
    batch : Batch
        Where rows lie.
    options : Options
        What to compute.
    """
    key = kind, *_key(arrays, optional, batch, options)
    found = _variants.get(key)
    if found is None:
        if len(_variants) >= MOST:
            _variants.clear()
        tile = _tile(kind, arrays, batch, options)
        constants = _constants(arrays, options) | {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n}
        found = _variants[key] = Variant(_KERNELS[kind], constants, tile.num_warps, tile.num_stages), tile
    return found


def both_of(
    arrays: tuple[torch.Tensor, ...], sinks: torch.Tensor | None, batch: Batch, options: Options
) -> tuple[Variant, Tile, Tile] | None:
    """Return the kernel of queries and keys for such arrays, with the tiles of either; None where these don't fit."""
    key = _key(arrays, (sinks,), batch, options)
    if key in _both:
        return _both[key]
    if len(_both) >= MOST:
        _both.clear()
    queries, keys = (_tile(kind, arrays, batch, options) for kind in ("queries", "keys"))
    found = None
    if queries.num_warps == keys.num_warps:
        constants = _constants(arrays, options)
        constants |= {"QUERIES_M": queries.block_m, "QUERIES_N": queries.block_n}
        constants |= {"KEYS_M": keys.block_m, "KEYS_N": keys.block_n}
        stages = min(queries.num_stages, keys.num_stages)
        found = Variant(both_kernel, constants, queries.num_warps, stages), queries, keys
    _both[key] = found
    return found


def _key(
    arrays: tuple[torch.Tensor, ...], optional: tuple[torch.Tensor | None, ...], batch: Batch, options: Options
) -> tuple[Any, ...]:
    """Return all that a kernel and its tile depend on."""
    (left, right), scale = options.window, options.scale
    return (
        *(_octave(arrays[1], batch), options.causal, left < 0, right < 0, _sign(scale), options.softcap is None),
        *(arrays[0].device, batch.q_offsets.dtype, batch.k_offsets.dtype),
        *map(alike, optional),
        *((x.shape[1:], x.stride(), *alike(x)) for x in arrays),
    )


def _octave(k: torch.Tensor, batch: Batch) -> int:
    """Return a class of mean lengths, each twice as long as those below it."""
    return (k.shape[0] // batch.size).bit_length()


def _tile(kind: str, arrays: tuple[torch.Tensor, ...], batch: Batch, options: Options) -> Tile:
    q, k, v, *_ = arrays
    setting = Setting(kind, power_of_2(max(q.shape[2], v.shape[2])), q.element_size(), options.causal)
    return choose(setting, 2 ** (_octave(k, batch) - 1), q.device)


def _constants(arrays: tuple[torch.Tensor, ...], options: Options) -> dict[str, Any]:
    q, k, v, *_ = arrays
    width = power_of_2(q.shape[2])
    exact, upcast = q.dtype == torch.float32, INTERPRETED and q.dtype == torch.bfloat16
    return {
        "GROUP": q.shape[1] // k.shape[1],
        "D": q.shape[2],
        "DV": v.shape[2],
        "BLOCK_D": width,
        # ptxas 12.8, which Triton 3.6 brings, makes wrong code for values that are narrower than keys and than 64.
        "BLOCK_DV": max(power_of_2(v.shape[2]), min(width, 64)),
        "LEFT": options.window[0] >= 0,
        "RIGHT": options.causal or options.window[1] >= 0,
        "SIGN": _sign(options.scale),
        "SOFTCAP": options.softcap is not None,
        "EXACT": exact,
        "UPCAST": upcast,
        "PRECISION": "ieee" if exact or upcast else "tf32",
    }
