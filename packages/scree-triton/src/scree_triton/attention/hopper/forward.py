"""Which calls go to the forward kernel for Hopper, and how they are launched."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import triton

from scree_torch.varlen_attention.options import Options
from scree_triton.alike import alike
from scree_triton.attention import configs
from scree_triton.attention.batch import Batch
from scree_triton.attention.hopper.descriptions import describe, described, is_copied
from scree_triton.attention.hopper.rule import (
    BLOCK_M,
    BLOCK_N,
    HEAD_DIM,
    NUM_WARPS,
    REGISTERS,
    STAGES,
    VERSIONS,
    computes,
    is_worth,
)
from scree_triton.launch import INTERPRETED, Variant, empty, memory


def takes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch, options: Options) -> bool:
    """Tell whether a call goes to the kernel for Hopper rather than to ``forward_kernel``.

    Parameters
    ----------
    q, k, v : torch.Tensor
        Packed, with any strides, of one dtype; none of them empty.
    batch : Batch
        Their rows.
    options : Options
        What to compute.

    Notes
    -----
    It must be able to compute the call, on memory that the copy engine reads, and it must be worth it: see
    ``rule``.
    """
    return (
        is_offered(q.device)
        and computes(q.element_size(), (q.shape[2], v.shape[2]), **options._asdict())
        and all(map(is_copied, (q, k, v)))
        and _is_worth(q, k, batch)
    )


def _is_worth(q: torch.Tensor, k: torch.Tensor, batch: Batch) -> bool:
    return is_worth(q.shape[0], k.shape[0], q.shape[1], batch.size)


def is_offered(device: torch.device) -> bool:
    """Tell whether kernels for Hopper run on a device, by the version of Triton that is installed."""
    return not INTERPRETED and triton.__version__.startswith(VERSIONS) and configs.architecture_of(device) == "sm_90"


_COUNTER = memory((1,), torch.int32)


class Launch:
    """The kernel, ready to be launched on arrays of known shapes.

    Parameters
    ----------
    q, k, v : torch.Tensor
        Such arrays, which aren't kept.
    optional : tuple of torch.Tensor or None
        Whether there is a lse, whether there are stats, and the sinks.
    batch : Batch
        Their rows; not kept either.
    options : Options
        What to compute.
    capacity : int
        How many tiles there may be.

    Notes
    -----
    A call allocates 4 bytes for the counter of tiles and clears them, makes three descriptors, which hold addresses,
    and starts the kernel by Triton's launcher: 15 us more than a launch of ``forward_kernel`` on an H100's host.
    """

    __slots__ = ("_descriptions", "_numbers", "_programs", "_variant")

    def __init__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        optional: tuple[torch.Tensor | None, ...],
        batch: Batch,
        options: Options,
        capacity: int,
    ) -> None:
        total, heads, _ = q.shape
        programs = capacity * heads
        self._variant = _variant(q, optional, batch, options)
        self._programs = min(programs, _multiprocessors(q.device))
        self._descriptions = tuple(describe(x, block) for x, block in ((q, BLOCK_M // 2), (k, BLOCK_N), (v, BLOCK_N)))
        self._numbers = total, heads, heads // k.shape[1], programs, options.scale * math.log2(math.e)

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *arrays: torch.Tensor | None) -> None:
        """Launch on the current stream of the current device, on the arrays that ``forward_kernel`` takes."""
        counter = empty(_COUNTER, q).zero_()
        descriptors = (described(x, description) for x, description in zip((q, k, v), self._descriptions, strict=True))
        self._variant(self._programs, *arrays, counter, *descriptors, *self._numbers)


_variants: dict[Any, Variant] = {}


def _variant(q: torch.Tensor, optional: tuple[torch.Tensor | None, ...], batch: Batch, options: Options) -> Variant:
    from scree_triton.attention.kernels.hopper.forward import hopper_kernel

    key = q.device, q.dtype, options.causal, *map(alike, optional), batch.q_offsets.dtype, batch.k_offsets.dtype
    found = _variants.get(key)
    if found is None:
        tile = {"BLOCK_M": BLOCK_M, "BLOCK_N": BLOCK_N, "D": HEAD_DIM, "STAGES": STAGES}
        variant = Variant(hopper_kernel, {"RIGHT": options.causal} | tile, NUM_WARPS, 1, maxnreg=REGISTERS)
        found = _variants[key] = variant
    return found


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
