"""The library of a bridge, imported when the bridge is first crossed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from scree_core.errors import BackendNotInstalledError


def library(module: str, bridge: str, install: str, instead: str = "") -> Any:
    """Import the library that a bridge leads to, or say how to install it.

    Parameters
    ----------
    module : str
        The module to import, such as ``"pyarrow"``.
    bridge : str
        Who needs it, for the message.
    install : str
        What to give to ``pip install``.
    instead : str, optional
        What does without it, for the end of the message.

    Returns
    -------
    module

    Raises
    ------
    BackendNotInstalledError
        It isn't installed. Where it is but fails to import, its own error passes.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = module.split(".")[0]
        if (error.name or "").split(".")[0] != missing:
            raise  # installed, but broken
        raise BackendNotInstalledError(
            f"scree.bridges.{bridge} needs {install}, but there is no {missing}{instead}.\n    pip install {install}"
        ) from None
