"""Which piece of which row lies in which bin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import index

import numpy as np

from scree_core.errors import ArgumentTypeError


@dataclass(frozen=True, eq=False, repr=False)
class Packing:
    """Bins of rows, as ``pack_lengths`` returns them.

    ``len`` is the number of bins; indexing and iteration give the rows of a bin, int64 arrays of their indices. Bin
    ``b`` holds the pieces ``offsets[b]`` up to, not including, ``offsets[b + 1]``. All arrays are read-only.

    Parameters
    ----------
    offsets : numpy.ndarray of shape (bins + 1,), int64
        Which pieces are in which bin. Every bin has at least one.
    indices : numpy.ndarray of shape (pieces,), int64
        The row that each piece is of.
    starts : numpy.ndarray of shape (pieces,), int64
        Where in its row each piece begins; 0 unless rows were split.
    lengths : numpy.ndarray of shape (pieces,), int64
        How many elements of its row each piece has.
    capacity : int
        How many elements a bin can hold.
    dropped : numpy.ndarray of shape (rows that are in no bin,), int64
        The rows that were left out with ``over="drop"``, in ascending order.
    lost : int
        How many elements of all rows are in no bin, being cut off or dropped.

    Notes
    -----
    24 bytes for a piece, 8 for a bin.

    Examples
    --------
    >>> import scree
    >>> packing = scree.packing.pack_lengths([5, 3, 2, 6], 8, over="error")
    >>> packing
    Packing(2 bins of 8, 4 pieces, fill 1.000, 0 elements of padding, 0 lost, 0 rows dropped)
    >>> [rows.tolist() for rows in packing]
    [[3, 2], [0, 1]]
    """

    offsets: np.ndarray
    indices: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    capacity: int
    dropped: np.ndarray
    lost: int

    def __post_init__(self) -> None:
        for arr in (self.offsets, self.indices, self.starts, self.lengths, self.dropped):
            arr.flags.writeable = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, b: int) -> np.ndarray:
        return self.indices[self._pieces_of(b)]

    def __iter__(self) -> Iterator[np.ndarray]:
        bounds = self.offsets.tolist()
        return (self.indices[bounds[b] : bounds[b + 1]] for b in range(len(self)))

    def pieces(self, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return indices, starts and lengths of the pieces in bin ``b``, views of shape ``(pieces in b,)``."""
        of = self._pieces_of(b)
        return self.indices[of], self.starts[of], self.lengths[of]

    def _pieces_of(self, b: int) -> slice:
        try:
            at = index(b)
        except TypeError:
            raise ArgumentTypeError(f"a bin is chosen by a whole number, got {b!r}; several by a loop") from None
        if not -len(self) <= at < len(self):
            raise IndexError(f"bin {at} of {len(self)}")
        at %= len(self)
        return slice(int(self.offsets[at]), int(self.offsets[at + 1]))

    @cached_property
    def totals(self) -> np.ndarray:
        """How many elements each bin holds, int64 ``(bins,)``; what ``multiple_of`` adds isn't counted."""
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])
        return np.diff(ends[self.offsets])

    @property
    def padding(self) -> int:
        """How many elements are missing until every bin is full."""
        return len(self) * self.capacity - int(self.totals.sum())

    @property
    def fill(self) -> float:
        """The part of all bins that is filled with elements, from 0 to 1; 1 where there are no bins."""
        return 1 - self.padding / (len(self) * self.capacity) if len(self) else 1.0

    def __repr__(self) -> str:
        return (
            f"Packing({len(self):,} bins of {self.capacity:,}, {len(self.indices):,} pieces, fill {self.fill:.3f}, "
            f"{self.padding:,} elements of padding, {self.lost:,} lost, {len(self.dropped):,} rows dropped)"
        )
