"""NumPy's own files of several arrays, one of which is the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from scree_core.arguments import INTEGER_DTYPES
from scree_core.backend import FLOAT_DTYPES
from scree_core.bridges.bfloat16 import bfloat16
from scree_core.bridges.manifest import Manifest
from scree_core.errors import ArgumentError

DTYPES = (*FLOAT_DTYPES, *INTEGER_DTYPES, "bool", "complex64", "complex128")


def check_installed() -> None:
    """Return: NumPy is always there."""


def write(path: Path, tensors: dict[str, np.ndarray], manifest: Manifest) -> None:
    """Write tensors and the manifest, uncompressed."""
    plain: dict[str, Any] = {
        name: a.view(np.uint16) if a.dtype.name == "bfloat16" else a for name, a in tensors.items()
    }
    with open(path, "xb") as file:
        np.savez(file, **plain, scree=np.array(manifest.to_json()))


def read(path: Path) -> tuple[str | None, dict[str, Any]]:
    """Return the manifest's text and all tensors; where there is none, None and the names of the tensors."""
    with open(path, "rb") as file:
        try:
            tensors = _tensors(file)
        except Exception as error:  # zipfile, zlib and NumPy each raise what they like on damaged bytes
            raise ArgumentError(
                f"{path} is cut off, damaged, or no .npz file: {type(error).__name__}: {error}; save it anew"
            ) from error
    entry = tensors.pop("scree", None)
    if entry is None or entry.dtype.kind != "U" or entry.shape != ():
        return None, tensors
    for name in _bfloat16(str(entry)):
        if name in tensors and tensors[name].dtype == np.uint16:
            tensors[name] = tensors[name].view(bfloat16())
    return str(entry), tensors


def _tensors(file: Any) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as found:
        if "scree" not in found.files:
            return dict.fromkeys(found.files)
        return {name: found[name] for name in found.files}


def _bfloat16(text: str) -> list[str]:
    """Return the names of tensors that are bits of bfloat16; of a damaged manifest, which is found later, none."""
    try:
        entries = json.loads(text)["arrays"]
        return [str(entry["values"]) for entry in entries if entry["dtype"] == "bfloat16"]
    except (ValueError, TypeError, KeyError):
        return []
