"""What a case of the suite is: an op, and arguments drawn in float64, in no library's form yet."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rows:
    """An argument that becomes a ``scree.Array``."""

    values: np.ndarray
    """Float64 is rounded to the dtype under test; other dtypes stay."""
    lengths: tuple[int, ...]
    ragged_dim: int = 0
    offsets_dtype: str = "int32"
    strided: bool = False
    """Hand it over as every second feature of a wider array: not contiguous where the library has views."""
    share: str | None = None
    """Name of another argument whose offsets object this one takes."""
    tail: int = 0
    """Number of dead elements among the values, behind those of the rows."""


@dataclass(frozen=True)
class Dense:
    """An argument that becomes an array of the library."""

    values: np.ndarray


Arguments = Callable[[np.random.Generator], dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """One call of an op: arguments by name, ``Rows``, ``Dense``, lists of these, or plain options."""

    op: str
    name: str
    arguments: Arguments
    integer: bool = False
    """Holds no floating-point array: run once, not for each dtype."""
    tags: frozenset[str] = frozenset()
    """``"poison"``: has at least three rows, none empty, each of which may be poisoned. ``"forward_only"``:
    the suite's reference has no gradient to compare with."""

    @property
    def id(self) -> str:
        """Name that selects it: ``pytest -k varlen_attention-causal``."""
        return f"{self.op}-{self.name}"

    def draw(self) -> dict[str, Any]:
        """Return the arguments, the same in every run."""
        return self.arguments(np.random.default_rng(zlib.crc32(self.id.encode())))


@dataclass(frozen=True)
class ErrorCase:
    """One call that must be refused, with the type of the error and words of its message."""

    op: str
    name: str
    arguments: Arguments
    error: type[Exception]
    match: str

    @property
    def id(self) -> str:
        """Name that selects it."""
        return f"{self.op}-{self.name}"

    def draw(self) -> dict[str, Any]:
        """Return the arguments, the same in every run."""
        return self.arguments(np.random.default_rng(zlib.crc32(self.id.encode())))


FORWARD_ONLY = frozenset({"forward_only"})

LENGTHS: dict[str, tuple[int, ...]] = {
    "one_row": (7,),
    "mixed": (3, 1, 5),
    "empty_rows": (0, 4, 0, 2, 0),
    "all_empty": (0, 0),
    "no_rows": (),
    "long_tail": (1, 2, 61, 1),
    "around_powers": (7, 8, 9, 31, 32, 33),
}
"""The row lengths that every op is tried on."""


def draw_rows(rng: np.random.Generator, lengths: tuple[int, ...], *features: int, **options: Any) -> Rows:
    """Draw standard normal values ``(total, *features)``."""
    return Rows(rng.standard_normal((sum(lengths), *features)), lengths, **options)
