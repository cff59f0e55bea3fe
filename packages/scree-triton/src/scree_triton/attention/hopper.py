"""Which calls go to the kernel for Hopper, and how they are launched."""

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
from scree_triton.attention.hopper_rule import (
    BLOCK_M,
    BLOCK_N,
    FAR,
    HEAD_DIM,
    MOST,
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
    ``hopper_rule``.
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


def is_copied(x: torch.Tensor) -> bool:
    """Tell whether the copy engine reads a tensor: it wants addresses that are multiples of 16, and rows below FAR."""
    total_stride, head_stride, stride = x.stride()
    distances = total_stride, head_stride
    fits = all(0 < distance < 2**34 and distance * x.element_size() % 16 == 0 for distance in distances)
    return stride == 1 and fits and x.data_ptr() % 16 == 0 and x.shape[0] <= FAR


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


def describe(x: torch.Tensor, block: int) -> Any:
    """Return what tells the copy engine how to read blocks of rows of x, but for where x lies: its base is None.

    It fills with zeros what lies outside of the memory that it is told of. That shall be whatever is behind the end of
    a row, so that nothing of its neighbour takes part, and NaN least of all. So x is described with two more
    dimensions, which together move the origin to any element: element ``e`` of a row of ``length`` elements from
    ``start`` on is at ``(FAR, start + length, head, FAR - length + e)``, where the last coordinate leaves the memory at
    ``FAR``, the row's end. The first dimension's stride takes ``FAR`` rows back again, since addresses wrap at 2**64
    (the trick of ``triton.tools.ragged_tma``).
    """
    from triton.experimental.gluon.language import NVMMASharedLayout
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    stride, head_stride, _ = x.stride()
    _, heads, width = x.shape
    shape, strides = [MOST, MOST, heads, FAR, width], [2**34 - stride, stride, head_stride, stride, 1]
    layout = NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=5)
    description = TensorDescriptor(x, shape, strides, [1, 1, 1, block, width], layout)
    description.base = None
    return description


def described(x: torch.Tensor, description: Any) -> Any:
    """Return the descriptor of x, without the checks that its description has passed: they take three times as long."""
    descriptor = object.__new__(type(description))
    descriptor.__dict__ = description.__dict__ | {"base": x}
    return descriptor


_variants: dict[Any, Variant] = {}


def _variant(q: torch.Tensor, optional: tuple[torch.Tensor | None, ...], batch: Batch, options: Options) -> Variant:
    from scree_triton.attention.kernels.hopper import hopper_kernel

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
