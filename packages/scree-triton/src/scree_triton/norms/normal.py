"""Dividing by the standard deviation, as exactly as it matters."""

from __future__ import annotations

import triton
import triton.language as tl

FEW = tl.constexpr(32)
"""Features of which the gradient may be what is left of two almost equal numbers, for which each bit counts."""


@triton.jit
def normal(x, std, FEATURES: tl.constexpr):
    """Return ``x / std``, rounded once for few features, twice for more."""
    return tl.math.div_rn(x, std) if FEATURES <= FEW else x * tl.math.div_rn(1.0, std)
