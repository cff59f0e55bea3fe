"""What attention is compiled for."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """The static part of a call, beside the shapes of its arrays."""

    batch: int
    scale: float
    softcap: float | None
    tile: int
    """Queries of a tile, and keys of a block, at most."""
