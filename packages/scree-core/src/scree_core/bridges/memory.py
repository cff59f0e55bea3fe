"""What bridges between array libraries have in common: when they may share memory, and what comes along."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.array import Array
from scree_core.errors import ArgumentTypeError, UnsupportedError
from scree_core.layout import Layout


def check_copy(copy: object) -> None:
    """Check that an argument is True, False or None."""
    if copy is not None and not isinstance(copy, bool):
        raise ArgumentTypeError(f"copy must be True, False or None, got {copy!r}")


def refuse_to_share(source: str, target: str, why: str) -> UnsupportedError:
    """Return the error of ``copy=False`` where memory can't be shared."""
    return UnsupportedError(
        f"{target} can't share the memory of these {source} values: {why}; pass copy=None to copy them where need be"
    )


def detached(x: Any) -> Any:
    """Return a tensor without its gradient, which PyTorch asks for before it lends memory; anything else as it is."""
    return x.detach() if getattr(x, "requires_grad", False) else x


def on_same_rows(arr: Array[Any], values: Any, offsets: Any, host: np.ndarray | None) -> Array[Any]:
    """Return an Array of another library's values and offsets, with all that is known of the rows of ``arr``."""
    layout = Layout.trusted(
        offsets,
        total=arr.total_length,
        max_length=arr.max_length,
        min_length=arr.min_length,
        host=host,
        tail=arr.layout.tail,
    )
    return Array.trusted(values, layout, arr.ragged_dim)
