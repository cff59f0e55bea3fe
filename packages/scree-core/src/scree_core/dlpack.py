"""Where DLPack says an array lies, and what libraries raise where it can't be handed over."""

from __future__ import annotations

from typing import Any

CPU = 1
"""DLPack's number of host memory."""
UNSHARED = (AttributeError, BufferError, RuntimeError, TypeError, ValueError)
"""What libraries raise where an array can't be handed over."""


def on_host(x: Any) -> bool:
    """Tell whether an array lies in host memory, whose address others may be told."""
    return _kind(x) == CPU


def on_device(x: Any) -> bool:
    """Tell whether an array lies in the memory of a single GPU or its like."""
    return _kind(x) not in (None, CPU)


def _kind(x: Any) -> int | None:
    try:
        kind, _ = x.__dlpack_device__()
    except UNSHARED:  # an array of several devices has none, and a traced one
        return None
    return int(kind)
