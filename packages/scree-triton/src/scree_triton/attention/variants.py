"""Which kernel is launched on arrays of some form: what it is compiled for."""

from __future__ import annotations

from typing import Any

import torch

from scree_torch.varlen_attention.options import Options
from scree_triton.alike import alike
from scree_triton.attention import configs
from scree_triton.attention.batch import Batch
from scree_triton.attention.choice import AT_FIRST_CALL, choose, setting_of
from scree_triton.attention.configs import Tile
from scree_triton.attention.kernels.both import both_kernel
from scree_triton.attention.kernels.forward import forward_kernel
from scree_triton.attention.kernels.keys import keys_kernel
from scree_triton.attention.kernels.queries import queries_kernel
from scree_triton.attention.told import constants, numbers, sums, typical_length
from scree_triton.launch import INTERPRETED, Variant

MOST = 4096
"""Variants that are kept; a stream of ever new strides starts over."""


def numbers_of(options: Options) -> tuple[float, float, int, int]:
    """Return the kernels' factor of products and cap, both in base 2, and window."""
    causal, scale, window, softcap = options
    return numbers(causal=causal, scale=scale, window=window, softcap=softcap)


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
        told = _constants(arrays, options) | {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n}
        if kind == "forward":
            told["SUMS"] = sums(configs.architecture_of(arrays[0].device), arrays[0].element_size())
        found = _variants[key] = Variant(_KERNELS[kind], told, **tile.options), tile
    return found


def forget() -> None:
    """Choose variants anew from now on."""
    _variants.clear()
    _both.clear()


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
        told = _constants(arrays, options)
        told |= {"QUERIES_M": queries.block_m, "QUERIES_N": queries.block_n}
        told |= {"KEYS_M": keys.block_m, "KEYS_N": keys.block_n}
        stages = min(queries.num_stages, keys.num_stages)
        found = Variant(both_kernel, told, queries.num_warps, stages), queries, keys
    _both[key] = found
    return found


def _key(
    arrays: tuple[torch.Tensor, ...], optional: tuple[torch.Tensor | None, ...], batch: Batch, options: Options
) -> tuple[Any, ...]:
    """Return all that a kernel and its tile depend on."""
    (left, right), scale = options.window, options.scale
    return (
        *(typical_length(arrays[1].shape[0], batch.size), options.causal, left < 0, right < 0),
        *((scale > 0) - (scale < 0), options.softcap is None, arrays[0].device),
        *(batch.q_offsets.dtype, batch.k_offsets.dtype),
        *map(alike, optional),
        *((x.shape[1:], x.stride(), *alike(x)) for x in arrays),
    )


def _tile(kind: str, arrays: tuple[torch.Tensor, ...], batch: Batch, options: Options) -> Tile:
    q, k, v, *_ = arrays
    if AT_FIRST_CALL:
        from scree_triton.attention.tuning import tune_new

        tune_new(kind, q, k, v, batch, options)
    return choose(setting_of(kind, q, v, options.causal), typical_length(k.shape[0], batch.size), q.device)


def _constants(arrays: tuple[torch.Tensor, ...], options: Options) -> dict[str, Any]:
    q, k, v, *_ = arrays
    (causal, scale, window, softcap), heads, dims = options, (q.shape[1], k.shape[1]), (q.shape[2], v.shape[2])
    exact, upcast = q.dtype == torch.float32, INTERPRETED and q.dtype == torch.bfloat16
    return constants(
        heads, dims, causal=causal, scale=scale, window=window, softcap=softcap, exact=exact, upcast=upcast
    )
