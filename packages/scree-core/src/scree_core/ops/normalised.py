"""What the norms check alike."""

from __future__ import annotations

import math
from typing import Any

from scree_core.arguments import check_array, check_floating, check_number
from scree_core.array import Array
from scree_core.errors import ArgumentError, ShapeError


def check_normalised(x: Array[Any], op: str, eps: float) -> None:
    """Check that the last axis can be normalised over."""
    check_array(x, "x")
    check_floating(x, op, "x")
    if x.ragged_dim == x.ndim - 1:
        raise ShapeError(
            f"{op} works over the last axis, but that is the ragged one of values {tuple(x.values.shape)} with "
            f"ragged_dim={x.ragged_dim}; it needs a feature axis behind it"
        )
    number = check_number("eps", eps)
    if not 0 <= number < math.inf:  # math.isfinite can't be traced by torch.compile
        raise ArgumentError(f"eps must be a finite number of 0 or more, got {eps}")


def check_affine(x: Array[Any], **parameters: Any) -> dict[str, Any]:
    """Check that weight and bias have the shape of the last axis; return those that are given."""
    features = x.values.shape[-1]
    given = {name: array for name, array in parameters.items() if array is not None}
    for name, array in given.items():
        if tuple(getattr(array, "shape", ())) != (features,):
            got = getattr(array, "shape", type(array).__name__)
            raise ShapeError(f"{name} must have shape (features,) = ({features},), got {got}")
    return given
