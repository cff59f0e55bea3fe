"""What attention is to compute besides its arrays: the same for every way to compute it."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Options(NamedTuple):
    """Options of ``varlen_attention``, without the sinks: they are applied behind, whichever way it went."""

    causal: bool
    scale: float
    window: tuple[int, int]
    softcap: float | None

    @property
    def plain(self) -> bool:
        """Whether there is no softcap, and no window but causality."""
        return self.softcap is None and self.window[0] < 0 and (self.causal or self.window[1] < 0)


def wide_dtype(x: torch.Tensor) -> torch.dtype:
    """Return the dtype to compute in: float32, or float64 for float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
