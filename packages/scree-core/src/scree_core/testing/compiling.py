"""Calls as functions of raw arrays, offsets among them, for a library's compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scree_core.array import Array
from scree_core.layout import Layout
from scree_core.testing.case import Case
from scree_core.testing.public import outputs


def compiles(case: Case) -> bool:
    """Tell whether a case makes sense compiled: what the host has to read, it can't then.

    Rows are selected by offsets that the host knows, and a mask of numbers is checked there.
    """
    return case.op != "take_rows" and case.name not in ("int_mask", "float_mask")


def as_function(
    arguments: dict[str, Any], call: Callable[[dict[str, Any]], Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """Return a function of every raw array in placed arguments, which calls the op, and these arrays.

    Bounds of lengths, options and what an Array is made of are constants of the function; every values, offsets
    and dense array is an argument.
    """
    leaves: list[Any] = []
    rebuild = {name: _taken(value, leaves) for name, value in arguments.items()}

    def fn(*given: Any) -> tuple[Any, ...]:
        return tuple(outputs(call({name: make(given) for name, make in rebuild.items()})))

    return fn, leaves


def _taken(value: Any, leaves: list[Any]) -> Callable[[Any], Any]:
    """Append the raw arrays of an argument to ``leaves``, and return how to make it again from their like."""
    if isinstance(value, list):
        makers = [_taken(item, leaves) for item in value]
        return lambda given: [make(given) for make in makers]
    if isinstance(value, Array):
        values, offsets = _position(value.values, leaves), _position(value.offsets, leaves)
        layout, axis = value.layout, value.ragged_dim
        hints = {name: getattr(layout, name) for name in ("total", "max_length", "min_length", "tail")}
        return lambda given: Array.trusted(given[values], Layout.trusted(given[offsets], **hints), axis)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        at = _position(value, leaves)
        return lambda given: given[at]
    return lambda given: value


def _position(leaf: Any, leaves: list[Any]) -> int:
    found = next((i for i, other in enumerate(leaves) if other is leaf), None)
    if found is None:
        leaves.append(leaf)
    return len(leaves) - 1 if found is None else found
