"""What a call of attention is given."""

from __future__ import annotations

from typing import NamedTuple

import torch

from scree_torch.varlen_attention.options import Options
from scree_triton.attention.batch import Batch


class Given(NamedTuple):
    """The arrays of a call, where its rows lie, and its options: what launches are made for."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    d_out: torch.Tensor | None
    """None of a forward call."""
    d_lse: torch.Tensor | None
    """None too where the lse has no gradient."""
    sinks: torch.Tensor | None
    batch: Batch
    options: Options

    @property
    def arrays(self) -> tuple[torch.Tensor | None, ...]:
        """All arrays but the rows' boundaries."""
        return self[:6]
