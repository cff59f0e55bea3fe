"""What Triton compiles a kernel anew for, as far as a tensor tells: part of the key of every ``launch.Variant``."""

from __future__ import annotations

import torch

from scree_core.layout import INT32_MAX
from scree_triton.launch import ROCM


def alike(x: torch.Tensor | None) -> tuple[object, ...]:
    """Return whether there is a tensor, its dtype, and whether its address is a multiple of 16.

    For AMD's GPUs also whether it has less than 2 GiB, for which Triton compiles addresses of 32 bits.
    """
    if x is None:
        return ()
    if ROCM:
        return x.dtype, x.data_ptr() % 16 == 0, x.untyped_storage().nbytes() <= INT32_MAX
    return x.dtype, x.data_ptr() % 16 == 0
