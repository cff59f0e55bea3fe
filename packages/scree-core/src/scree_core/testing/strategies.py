"""Hypothesis strategies for layouts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def lengths(min_rows: int = 0, max_rows: int = 6, max_length: int = 9) -> Any:
    """Draw row lengths, empty rows included."""
    return st.lists(st.integers(0, max_length), min_size=min_rows, max_size=max_rows).map(tuple)


def permutation(n: int) -> Any:
    """Draw an order of ``n`` rows."""
    return st.permutations(range(n))


def data() -> Any:
    """Draw inside a test."""
    return st.data()
