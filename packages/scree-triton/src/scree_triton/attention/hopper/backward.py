"""Which backward passes go to the kernel for Hopper, and how they are launched."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton

from scree_triton.alike import alike
from scree_triton.attention.batch import Batch
from scree_triton.attention.given import Given
from scree_triton.attention.hopper.descriptions import describe, described, is_copied
from scree_triton.attention.hopper.forward import is_offered
from scree_triton.attention.hopper.rule import BLOCK_M as TILE
from scree_triton.attention.hopper.rule import REGISTERS, computes
from scree_triton.attention.run import Found, Plan
from scree_triton.launch import Launch, Variant, empty, memory

HEAD_DIMS = (64, 128)
BLOCK_M, BLOCK_N, STAGES = 64, 128, 2
"""Queries of a step, keys of a program, and steps whose queries have room."""
LEAST_WORK, LEAST_LENGTH = 120_000, 960
"""Queries times heads, and the mean length of a row: see ``_is_worth``."""
ELEMENTS = 32
"""Of a program of ``means_kernel``."""


def takes(given: Given) -> bool:
    """Tell whether a backward pass goes to the kernel for Hopper rather than to those of queries and keys.

    Notes
    -----
    Its rule is that of ``forward.takes`` but for these. Heads may be of 64 too. Programs add to the gradient of the
    queries in any order, so it is left where PyTorch is asked for deterministic algorithms. And it moves 14 bytes for
    each feature of a query beside its work, so rows must be long: see ``_is_worth``.
    """
    q, k, v, d_out, _, _, batch, options = given
    dims = q.shape[2], v.shape[2]
    return (
        is_offered(q.device)
        and computes(q.element_size(), dims, head_dims=HEAD_DIMS, **options._asdict())
        and all(map(is_copied, (q, k, v, d_out)))  # pyrefly: ignore
        and not torch.are_deterministic_algorithms_enabled()
        and _is_worth(q, k, batch)
    )


def _is_worth(q: torch.Tensor, k: torch.Tensor, batch: Batch) -> bool:
    """Tell whether there is enough to do.

    What the passes over the sums cost grows with the queries, what the kernel saves with the products. Time on an H100
    as a multiple of the other kernels', rows of log-normal lengths, in CUDA graphs (``benchmarks/hopper_backward.py``):

    =============================== ====== ======= ======= =======
    rows, heads                     causal mean    D = 64  D = 128
    =============================== ====== ======= ======= =======
    128, 16                         yes    310     1.32    1.27
    64, 16                          yes    618     1.09    1.04
    16, 16                          yes    760     1.00
    16, 4                           yes    993     0.97    0.94
    16, 8                           yes    993     0.96    0.93
    16, 16                          yes    993     0.93    0.91
    64, 16, lengths of sigma 1.2    yes    984             0.82
    16, 4                           yes    1988    0.81    0.81
    16, 16                          yes    1988    0.83    0.79
    16, 32 on 8                     yes    1988            0.80
    16, 32 (D = 64), 16 (D = 128)   yes    3976    0.75    0.76
    16, 16                          no     3976            0.70
    4, 16                           yes    9288    0.72    0.74
    =============================== ====== ======= ======= =======

    With 4 heads and rows of 993 the host needs longer than the device, and more for this kernel.
    """
    queries, keys = q.shape[0], k.shape[0]
    return queries * q.shape[1] >= LEAST_WORK and min(queries, keys) >= LEAST_LENGTH * batch.size


class Launches:
    """Three launches: of the means of dP, of all gradients, and from the sums of dq to dq.

    Parameters
    ----------
    given : Given
        Arrays of known shapes, which aren't kept.

    Notes
    -----
    A call allocates ``heads * (total_q + 64 * batch) * head_dim`` numbers of float32 for the sums of dq.
    """

    __slots__ = ("_descriptions", "_main", "_means", "_narrow", "_numbers", "_programs", "_sums", "_tiles")

    def __init__(self, given: Given) -> None:
        q, k, v, d_out, d_lse, _, batch, options = given
        (total, heads, dim), kv_heads = q.shape, k.shape[1]
        padded = total + batch.size * BLOCK_M
        self._sums = memory((heads, padded, dim), torch.float32)
        self._tiles = query_tiles, key_tiles = (
            batch.query_tiles(total, TILE),
            batch.key_tiles(k.shape[0], BLOCK_N),
        )
        means, self._main, narrow = _variants_of(given)
        strides = *d_out.stride(), *((0, 0) if d_lse is None else d_lse.stride())  # pyrefly: ignore
        programs = triton.cdiv(padded, ELEMENTS) * heads
        self._means = Launch(means, programs, (*strides, batch.size, total, padded, heads))
        self._narrow = Launch(narrow, query_tiles.most * heads, (padded, heads, options.scale))
        blocks = BLOCK_M, BLOCK_N // 2, BLOCK_N // 2, BLOCK_M
        self._descriptions = tuple(map(describe, (q, k, v, d_out), blocks))  # pyrefly: ignore
        self._programs = key_tiles.most * kv_heads
        factor = options.scale * math.log2(math.e)
        self._numbers = total, padded, heads, heads // kv_heads, factor, options.scale

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
        """Launch on the current stream of the current device; see ``backward.backward``."""
        q, k, v, d_out = arrays
        d_q, d_k, d_v = gradients
        offsets, others = batch.q_offsets, batch.k_offsets
        query_tiles, key_tiles = self._tiles
        sums, delta = empty(self._sums, q), empty(plan.lse, q)
        lse = None if d_lse is None else found.lse
        self._means(found.out, d_out, d_lse, lse, found.stats, sinks, delta, shares, sums, offsets)
        descriptors = map(described, (q, k, v, d_out), self._descriptions)
        tiles = batch.map_of_keys(key_tiles)
        self._main(
            self._programs,
            *(found.stats, delta, sums, d_k, d_v, offsets, others, tiles),
            *descriptors,
            *self._numbers,
        )
        self._narrow(sums, d_q, offsets, others, batch.map_of_queries(query_tiles))


_variants: dict[Any, tuple[Variant, Variant, Variant]] = {}


def _variants_of(given: Given) -> tuple[Variant, Variant, Variant]:
    from scree_triton.attention.kernels.hopper.backward import hopper_backward_kernel
    from scree_triton.attention.kernels.hopper.means import means_kernel
    from scree_triton.attention.kernels.hopper.narrow import narrow_kernel

    q, _, _, d_out, d_lse, sinks, batch, options = given
    offsets = batch.q_offsets.dtype, batch.k_offsets.dtype
    stride = d_out.stride()  # pyrefly: ignore
    key = (q.device, q.dtype, q.shape[2], options.causal, *map(alike, (d_out, d_lse, sinks)), stride, *offsets)
    found = _variants.get(key)
    if found is None:
        dim = {"D": q.shape[2]}
        tile = {"BLOCK_M": BLOCK_M, "BLOCK_N": BLOCK_N, "STAGES": STAGES}
        found = _variants[key] = (
            Variant(means_kernel, dim | {"BLOCK": ELEMENTS}, 4, 1),
            Variant(hopper_backward_kernel, {"RIGHT": options.causal} | dim | tile, 4, 1, maxnreg=REGISTERS),
            Variant(narrow_kernel, dim | {"TILE": TILE, "BLOCK": BLOCK_M}, 8, 1),
        )
    return found
