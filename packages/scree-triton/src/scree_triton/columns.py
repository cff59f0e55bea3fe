"""Features of an element side by side, as kernels read them."""

from __future__ import annotations

import torch


def columns(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` as ``(n, features)``, a view or else a copy of it, in which features are neighbours."""
    flat = x.reshape(x.shape[0], -1)
    return flat.contiguous() if flat.shape[1] > 1 and flat.stride(1) != 1 else flat
