"""Powers of 2, which the sides of a tile have to be."""

from __future__ import annotations


def power_of_2(n: int, least: int = 16) -> int:
    """Return the smallest power of 2 that is at least n, and 16: what ``tl.dot`` asks of a side."""
    return max(least, 1 << (n - 1).bit_length())  # Triton's own takes 4 us
