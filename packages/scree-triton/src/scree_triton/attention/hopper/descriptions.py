"""What tells Hopper's copy engine how an array of rows lies in memory."""

from __future__ import annotations

from typing import Any

import torch

from scree_triton.attention.hopper.rule import FAR, MOST


def is_copied(x: torch.Tensor) -> bool:
    """Tell whether the copy engine reads a tensor: it wants addresses that are multiples of 16, and rows below FAR."""
    total_stride, head_stride, stride = x.stride()
    distances = total_stride, head_stride
    fits = all(0 < distance < 2**34 and distance * x.element_size() % 16 == 0 for distance in distances)
    return stride == 1 and fits and x.data_ptr() % 16 == 0 and x.shape[0] <= FAR


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
