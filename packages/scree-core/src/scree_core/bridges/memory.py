"""What bridges between array libraries have in common: when they may share memory, and how they refuse to."""

from __future__ import annotations

from scree_core.errors import ArgumentTypeError, UnsupportedError


def check_copy(copy: object) -> None:
    """Check that an argument is True, False or None."""
    if copy is not None and not isinstance(copy, bool):
        raise ArgumentTypeError(f"copy must be True, False or None, got {copy!r}")


def refuse_to_share(source: str, target: str, why: str) -> UnsupportedError:
    """Return the error of ``copy=False`` where memory can't be shared."""
    return UnsupportedError(
        f"{target} can't share the memory of these {source} values: {why}; pass copy=None to copy them where need be"
    )
