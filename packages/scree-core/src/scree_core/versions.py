"""The version of an installed module, for reports."""

from __future__ import annotations

import importlib


def module_version(name: str) -> str:
    """Return a module's ``__version__``, or ``"unknown"`` where there is no such module or attribute."""
    try:
        return str(getattr(importlib.import_module(name), "__version__", "unknown"))
    except ModuleNotFoundError:
        return "unknown"
