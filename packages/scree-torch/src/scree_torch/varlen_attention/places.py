"""Stretches of packed values as a rectangle: a view of a single one, a padded copy of several."""

from __future__ import annotations

import numpy as np
import torch


class Place:
    """Where the stretches of a tile lie in packed values.

    Parameters
    ----------
    starts, lengths : tuple of int
        Of each stretch.
    """

    def __init__(self, starts: tuple[int, ...], lengths: tuple[int, ...]) -> None:
        self.count, self.width = len(starts), max(lengths)
        self.alone = slice(starts[0], starts[0] + lengths[0]) if self.count == 1 else None
        if self.alone is None:
            first, length = np.array(starts)[:, None], np.array(lengths)[:, None]
            column = np.arange(self.width)
            self.filled = column < length
            self.source = torch.from_numpy((first + column)[self.filled])
            self.cell = torch.from_numpy(np.flatnonzero(self.filled))

    def take(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return the stretches of ``(total, *features)`` as ``(count, width, *features)``, padded with zeros."""
        if self.alone is not None:
            return x[self.alone].unsqueeze(0).to(dtype)
        padded = x.new_zeros((self.count * self.width, *x.shape[1:]), dtype=dtype)
        padded.index_copy_(0, self.cell, x.index_select(0, self.source).to(dtype))
        return padded.view(self.count, self.width, *x.shape[1:])

    def put(self, out: torch.Tensor, x: torch.Tensor) -> None:
        """Write what ``take`` would have taken back to its places in ``out``."""
        if self.alone is not None:
            out[self.alone] = x[0]
        else:
            out.index_copy_(0, self.source, self._packed(x).to(out.dtype))

    def add(self, out: torch.Tensor, x: torch.Tensor) -> None:
        """Add it there; stretches may overlap."""
        if self.alone is not None:
            out[self.alone] += x[0]
        else:
            out.index_add_(0, self.source, self._packed(x).to(out.dtype))

    def _packed(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(self.count * self.width, *x.shape[2:]).index_select(0, self.cell)
