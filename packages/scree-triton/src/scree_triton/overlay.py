"""The ops that run as Triton kernels, in front of PyTorch's own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import torch

from scree_core.overlay import Overlay


class TritonOverlay(Overlay):
    """Kernels for tensors on CUDA devices; it has none yet."""

    name = "torch.triton"
    priority = 10

    def why_not(self, op: str, /, *args: Any, **kwargs: Any) -> str | None:
        """Return why no kernel runs this call: first what its user can mend, last what is missing here."""
        if not sys.platform.startswith("linux"):
            return f"Triton needs Linux, this is {sys.platform}"
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed: pip install triton"
        devices = dict.fromkeys(x.device.type for x in _tensors((args, kwargs)))
        elsewhere = [device for device in devices if device != "cuda"]
        if elsewhere:
            return f"values are on {' and '.join(elsewhere)}, need cuda"
        if not hasattr(self, op):
            return f"scree-triton has no kernel for {op} yet"
        return None

    def version(self) -> str:
        """Return the version of Triton, or ``"not installed"``; doesn't import it."""
        try:
            return importlib.metadata.version("triton")
        except importlib.metadata.PackageNotFoundError:
            return "not installed"


def _tensors(x: Any) -> Iterator[torch.Tensor]:
    """Walk over the tensors among arguments and in lists of them."""
    if isinstance(x, torch.Tensor):
        yield x
    elif isinstance(x, (tuple, list)):
        for part in x:
            yield from _tensors(part)
    elif isinstance(x, dict):
        yield from _tensors(tuple(x.values()))
