"""A crossing of a bridge, of which there is a line in the table of ``docs/bridges.md``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

MODULES = {"numpy": ("numpy",), "torch": ("torch", "scree_torch"), "jax": ("jax", "scree_jax")}
"""What it takes to make the arrays of a library."""


class Sides(NamedTuple):
    """The arrays before and behind a bridge; None where there are none."""

    values: tuple[Any, Any]
    offsets: tuple[Any, Any]
    """Offsets, or whatever else tells the rows: lengths, a mask, row numbers."""


class Crossing(NamedTuple):
    """How a bridge is crossed in one direction, and where values and offsets are then."""

    system: str
    direction: str
    bridge: str
    distribution: str
    """Whose version the line has."""
    modules: tuple[str, ...]
    source: str
    """Of which library values and offsets are made: numpy, torch, "torch ids" (token ids) or jax."""
    cross: Callable[[Any, Any], Sides]

    @property
    def key(self) -> tuple[str, str]:
        """What no two lines have in common."""
        return self.system, self.direction

    def __str__(self) -> str:
        return f"{self.system} {self.direction}"


def crossing(
    system: str, direction: str, bridge: str, distribution: str, *modules: str, source: str = "numpy"
) -> Callable[[Any], Crossing]:
    """Make a function of values and offsets a crossing."""
    needed = (*MODULES[source.split()[0]], *modules)
    return lambda cross: Crossing(system, direction, bridge, distribution, needed, source, cross)
