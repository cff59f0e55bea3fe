"""How the suite calls each op of the contract: through the public function that users call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import scree_core
from scree_core.array import Array
from scree_core.dispatch import Call
from scree_core.explain import prepared
from scree_core.layout import offsets_from_lengths

METHODS: dict[str, Callable[..., Any]] = {
    "segment_ids": lambda arr: arr.segment_ids,
    "positions": lambda arr: arr.positions,
    "take_rows": lambda arr, index: arr[index],
}
"""Ops that are spelled as an attribute or an index."""

EXACT = ("pack", "take_rows", "to_padded", "from_padded", "segment_ids", "positions", "repeat_rows")
"""Ops that move elements and compute none: every bit must be right."""


def call_public(op: str, arguments: dict[str, Any], backend: str | None = None) -> Any:
    """Call an op as a user does."""
    if op in METHODS:
        return METHODS[op](**arguments)
    return getattr(scree_core, op)(**arguments, **({"backend": backend} if backend else {}))


def outputs(result: Any) -> list[Any]:
    """Return the raw arrays of a result: an Array's values (and offsets, where it has new ones), or arrays."""
    parts = result if isinstance(result, tuple) else (result,)
    return [part.values if isinstance(part, Array) else part for part in parts]


def method_call(op: str, arguments: dict[str, Any]) -> Call:
    """Return the call that a backend would receive, for NumPy arguments with ``ragged_dim`` 0."""
    if op in scree_core.ops.__all__:
        return prepared(op, **arguments)
    first = next(iter(arguments.values()))
    if op == "pack":
        return Call(op, (list(first),), {}, {})
    if op == "from_padded":
        return Call(op, (first, arguments["mask"].astype(bool)), {}, {})
    if op == "to_padded":
        width = arguments.get("max_length") or first.max_length
        options = {"width": width, "side": arguments.get("side", "right"), "fill_value": arguments.get("fill_value", 0)}
        return Call(op, (first.values, first.layout), options, {})
    if op == "take_rows":
        return Call(op, (first.values, _elements(first, np.asarray(arguments["index"]))), {}, {})
    raise AssertionError(f"{op} has no gradient to take")


def _elements(arr: Array[Any], index: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
    host = arr.layout.host
    assert host is not None
    lengths = np.diff(host)[rows]
    out = offsets_from_lengths(lengths)
    return np.repeat(host[:-1][rows] - out[:-1], lengths) + np.arange(out[-1])
