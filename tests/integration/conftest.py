"""The libraries that are installed, as fixtures: each by its name, with a way in and a way out."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from scree_core.registry import backend_of


class Library(NamedTuple):
    """An array library: its name, and how a NumPy array becomes one of its arrays."""

    name: str
    array: Callable[[np.ndarray], Any]

    def numbers(self, x: Any) -> np.ndarray:
        """Return one of its arrays as a NumPy array."""
        return backend_of(x).to_numpy(x)


MODULES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "mlx": "mlx.core"}
MAKERS = {"numpy": "asarray", "torch": "tensor", "jax": "asarray", "mlx": "array"}


def library(name: str) -> Library:
    """Return an installed library, or skip."""
    required = name in os.environ.get("SCREE_REQUIRE", "").split(",")
    module = importlib.import_module(MODULES[name]) if required else pytest.importorskip(MODULES[name])
    return Library(name, getattr(module, MAKERS[name]))


@pytest.fixture(params=list(MODULES))
def one(request: pytest.FixtureRequest) -> Library:
    """Each library."""
    return library(request.param)


@pytest.fixture(params=[(a, b) for a in MODULES for b in MODULES if a != b], ids="-".join)
def two(request: pytest.FixtureRequest) -> tuple[Library, Library]:
    """Each pair of different libraries."""
    first, second = request.param
    return library(first), library(second)
