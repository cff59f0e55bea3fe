"""Tiles that were tuned on this machine: one JSON file in the user's cache, read once by each process.

A result counts for the device, the compiler and the text of the kernels that it was measured with. After a change of
any of them it is left alone, neither read nor deleted. Delete the file to forget all.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import triton

FILE = "triton-tiles-2.json"
"""Its number changes with what is written there."""

Entries = dict[str, dict[str, dict[str, Any]]]
"""By ``environment`` and setting: ``tile``, and what was measured."""


def path() -> Path:
    """Return where the file is: in ``SCREE_CACHE_DIR``, else ``scree`` in ``XDG_CACHE_HOME``, else ``~/.cache/scree``.

    Raises
    ------
    RuntimeError
        The user has no home.
    """
    if own := os.environ.get("SCREE_CACHE_DIR"):
        return Path(own) / FILE
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The standard says that others are to be ignored.
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "scree" / FILE


def find(setting: str, device: torch.device, architecture: str) -> list[int] | None:
    """Return the tile that was tuned for a setting, if one was."""
    entries = _entries()
    if not entries:
        return None
    entry = entries.get(environment(device, architecture), {}).get(setting)
    return None if entry is None else entry["tile"]


def keep(found: dict[str, dict[str, Any]], device: torch.device, architecture: str) -> Path | None:
    """Use results from now on, and write them beside those that other processes have written.

    Returns
    -------
    Path or None
        Of the file; None, and a warning, where it couldn't be written.
    """
    here = environment(device, architecture)
    _entries().setdefault(here, {}).update(found)
    try:
        where = path()
        where.parent.mkdir(parents=True, exist_ok=True)
        with _alone(where.with_suffix(".lock")):
            try:
                stored = _stored(where)
            except ValueError:  # the warning was given when it was read
                stored = {}
            stored.setdefault(here, {}).update(found)
            _replace(where, json.dumps(stored, indent=1) + "\n")
    except (OSError, RuntimeError) as error:
        message = f"scree can't keep tuned tiles: {error}; set SCREE_CACHE_DIR to a folder that can be written"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return None
    return where


@functools.cache
def environment(device: torch.device, architecture: str) -> str:
    """Return all that a measured tile depends on."""
    name = torch.cuda.get_device_name(device)
    return f"{name}, {architecture}, Triton {triton.__version__}, {compiler(architecture)}, kernels {kernels()}"


def compiler(architecture: str) -> str:
    """Return the name and version of what makes machine code of Triton's."""
    if torch.version.hip is not None:
        return f"ROCm {torch.version.hip}"
    from triton.backends.nvidia.compiler import get_ptxas

    return f"ptxas {get_ptxas(int(architecture.removeprefix('sm_'))).version}"


@functools.cache
def kernels() -> str:
    """Return a hash of the kernels' text."""
    texts = resources.files("scree_triton.attention.kernels").iterdir()
    read = sorted((text.name, text.read_bytes()) for text in texts if text.name.endswith(".py"))
    return hashlib.sha256(repr(read).encode()).hexdigest()[:16]


_known: Entries | None = None


def _entries() -> Entries:
    """Return what the file holds; nothing, and a warning once, where it can't be used."""
    global _known
    if _known is None:
        try:
            _known = _stored(path())
        except RuntimeError:  # no home, no file
            _known = {}
        except (OSError, ValueError) as error:
            message = f"scree can't use the tuned tiles in {path()}: {error}; delete the file, or tune again"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            _known = {}
    return _known


def _stored(where: Path) -> Entries:
    """Return what a file holds, checked; raise a ValueError where it is something else."""
    try:
        entries = json.loads(where.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    try:
        tiles = [entry["tile"] for found in entries.values() for entry in found.values()]
    except (AttributeError, KeyError, TypeError):
        raise ValueError("it holds no tuned tiles") from None
    for tile in tiles:
        if not (isinstance(tile, list) and len(tile) in (4, 5) and all(isinstance(n, int) and n > 0 for n in tile)):
            raise ValueError(f"{tile!r} is no tile")
    return entries


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other processes and threads from reading and replacing in between; the lock goes with the process."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _replace(where: Path, text: str) -> None:
    """Write a file in one step: who reads meanwhile finds the old one."""
    handle, beside = tempfile.mkstemp(dir=where.parent, prefix=where.name)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(beside, where)
    except BaseException:
        os.unlink(beside)
        raise
