"""Extremes of uint16, uint32 and uint64, which PyTorch stores but can't compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from scree_torch.namespace import SIGNED

INT64_MIN = -(2**63)


def reduce_as_int64(reduce: Callable[[torch.Tensor, int], torch.Tensor], x: torch.Tensor, empty: Any) -> torch.Tensor:
    """Reduce unsigned integers by their order-preserving image in int64.

    Parameters
    ----------
    reduce : callable
        Maps int64 values and the value of an empty row to the result; depends on their order alone.
    x : torch.Tensor
        Of dtype uint16, uint32 or uint64.
    empty : int
        Value of an empty row, within that dtype.

    Returns
    -------
    torch.Tensor
        Of the dtype of x.
    """
    if x.dtype == torch.uint64:
        # Flipping the top bit maps 0..2**64-1 onto int64 in order.
        out = reduce(x.view(torch.int64) ^ INT64_MIN, int(empty) + INT64_MIN)
        return (out ^ INT64_MIN).view(torch.uint64)
    return reduce(x.to(torch.int64), int(empty)).to(SIGNED[x.dtype]).view(x.dtype)
