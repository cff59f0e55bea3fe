"""Files of the library safetensors, whose metadata carry the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scree_core.arguments import INTEGER_DTYPES
from scree_core.backend import FLOAT_DTYPES
from scree_core.bridges.bfloat16 import bfloat16
from scree_core.bridges.library import library
from scree_core.bridges.manifest import Manifest
from scree_core.errors import ArgumentError

DTYPES = (*FLOAT_DTYPES, *INTEGER_DTYPES, "bool", "complex64")


def check_installed() -> None:
    """Raise an error that says what to install, where the library is missing."""
    library("safetensors.numpy", "save/load", "safetensors", "; or use .npz")


def write(path: Path, tensors: dict[str, np.ndarray], manifest: Manifest) -> None:
    """Write contiguous tensors and the manifest."""
    from safetensors import SafetensorError  # pyrefly: ignore[missing-import]
    from safetensors.numpy import save_file  # pyrefly: ignore[missing-import]

    with open(path, "xb"):
        mode = path.stat().st_mode
    try:
        save_file(tensors, path, metadata={"scree": manifest.to_json()})
    except SafetensorError as error:
        raise OSError(f"{path} can't be written: {error}") from error
    path.chmod(mode)  # the library makes files that their owner alone may read


def read(path: Path) -> tuple[str | None, dict[str, Any]]:
    """Return the manifest's text and all tensors; where there is none, None and the names of the tensors."""
    from safetensors import SafetensorError, safe_open  # pyrefly: ignore[missing-import]

    try:
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get("scree")
            names = list(file.keys())
            if text is None:
                return None, dict.fromkeys(names)
            if any(file.get_slice(name).get_dtype() == "BF16" for name in names):
                bfloat16()
            return text, {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ArgumentError(f"{path} is cut off, damaged, or no .safetensors file: {error}; save it anew") from error
