"""What is installed, and in what state."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy

from scree_core.errors import BackendLoadError
from scree_core.registry import EXTRAS, capabilities, has_base, installed, load

KNOWN = ("numpy", "torch", "torch.triton", "jax", "jax.triton", "mlx")
"""The backends that scree itself publishes."""


class BackendState(NamedTuple):
    """One backend or overlay: whether it works, and which ops it provides."""

    name: str
    state: str
    """``"ok"``, ``"not installed"`` or ``"broken"``."""
    version: str | None
    """Version of the array library."""
    reason: str | None
    """Why it is broken, or what to install."""
    ops: dict[str, str]
    """Each op of the contract to ``"native"`` or ``"default"`` (core's reference on the library's arrays)."""


def backends() -> list[BackendState]:
    """List every known backend with its version and state, loading those that are installed.

    Returns
    -------
    list of BackendState
        NumPy first, then scree's own, then third-party ones.

    Notes
    -----
    Imports every array library that has a backend, which may take seconds.

    Examples
    --------
    >>> import scree
    >>> scree.backends()[0].name, scree.backends()[0].state
    ('numpy', 'ok')
    """
    names = dict.fromkeys((*KNOWN, *installed()))
    return [_state(name) for name in names]


def _state(name: str) -> BackendState:
    if name not in installed() or (name in EXTRAS and not has_base(name)):
        return BackendState(name, "not installed", None, f'pip install "scree[{EXTRAS[name]}]"', {})
    try:
        plugin = load(name)
        return BackendState(name, "ok", plugin.version(), None, capabilities(plugin))
    except BackendLoadError as error:
        cause = error.__cause__
        return BackendState(name, "broken", None, f"{type(cause).__name__}: {cause}" if cause else str(error), {})


def versions() -> dict[str, str]:
    """Return what a bug report needs: Python, platform, NumPy."""
    return {"python": sys.version.split()[0], "platform": sys.platform, "numpy": numpy.__version__}
