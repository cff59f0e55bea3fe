"""What an op must give: the reference's outputs and gradients for a case's arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.array import Array
from scree_core.registry import installed_for
from scree_core.testing.losses import cotangent_of_losses
from scree_core.testing.placing import float_leaves, is_float, layouts, placed
from scree_core.testing.public import call_public, method_call, outputs
from scree_core.testing.truth import ReferenceBackend, gradients

REFERENCE = ReferenceBackend()


def is_float_array(a: Any) -> bool:
    """Tell whether something is a NumPy array of floating-point numbers."""
    return isinstance(a, np.ndarray) and is_float(a)


def as_numbers(a: Any) -> np.ndarray:
    """Return a NumPy array to compare with: floats in float64."""
    return np.asarray(a).astype(np.float64) if is_float(np.asarray(a)) else np.asarray(a)


def reference_outputs(op: str, arguments: dict[str, Any]) -> list[Any]:
    """Return the outputs of an op on NumPy arrays, computed in their dtype."""
    with installed_for(np.ndarray, REFERENCE), np.errstate(all="ignore"):
        return outputs(call_public(op, placed(arguments, lambda a: a)))


def reference_gradients(op: str, arguments: dict[str, Any], cotangents: list[np.ndarray]) -> list[Any]:
    """Return the gradients of an op on NumPy arrays, computed in their dtype: one for each float leaf."""
    with installed_for(np.ndarray, REFERENCE), np.errstate(all="ignore"):
        ready = placed(arguments, lambda a: a)
        dtype = next(leaf.dtype for value in ready.values() for leaf in float_leaves(value) if is_float_array(leaf))
        if op == "varlen_cross_entropy":
            cotangents = [cotangent_of_losses(cotangents[0], **ready)]
        found = gradients(method_call(op, ready), [c.astype(dtype) for c in cotangents])
    flat = [g for part in found for g in (part if isinstance(part, list) else [part])]
    return [g for g in flat if g is not None]


def check_layout(op: str, arguments: dict[str, Any], result: Any) -> None:
    """Check that an Array on a layout that was given keeps the offsets object."""
    if op in ("pack", "take_rows", "from_padded"):
        return
    own = layouts(arguments)
    for part in result if isinstance(result, tuple) else (result,):
        if isinstance(part, Array):
            assert part.offsets is own[0].offsets, f"{op} did not keep the offsets object"
