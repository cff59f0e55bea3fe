"""Tensors in whatever a model returns, and by how much their rows differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from scree_core import Array
from scree_torch.audit.slots import NOBODY, Slots

AT_ONCE = 4096
"""Elements whose float64 copies exist at one time."""


def tensors_in(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Go through tensors and Arrays in tuples, lists and mappings, with their names; other objects are passed over."""
    if isinstance(value, (torch.Tensor, Array)):
        yield name or "output", value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors_in(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from tensors_in(part, f"{name}[{i}]")


def in_columns(x: torch.Tensor) -> torch.Tensor:
    """Return elements with all their features in one axis, ``(elements, features)``."""
    x = x.cpu() if x.device.type == "mps" else x  # which has no float64
    return x.flatten(1) if x.ndim > 1 else x[:, None]


def distances(before: torch.Tensor, after: torch.Tensor) -> np.ndarray:
    """Return the largest difference in each element, ``(elements,)``; infinite where one of the two is NaN."""
    before, after = in_columns(before), in_columns(after)
    if before.numel() == 0:
        return np.zeros(before.shape[0])
    parts = zip(before.split(AT_ONCE), after.split(AT_ONCE), strict=True)
    return torch.cat([_apart(*part).amax(1) for part in parts]).cpu().numpy()


def _apart(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    wide = torch.complex128 if before.is_complex() else torch.float64
    apart = (before.to(wide) - after.to(wide)).abs()
    same = (before == after) | (before.isnan() & after.isnan())
    return apart.nan_to_num(nan=torch.inf, posinf=torch.inf).masked_fill(same, 0.0)


def became_nan(before: torch.Tensor, after: torch.Tensor) -> np.ndarray:
    """Return infinity where there is a NaN that wasn't there before, else 0, ``(elements,)``."""
    new = in_columns(after).isnan().any(1) & ~in_columns(before).isnan().any(1)
    return np.where(new.cpu().numpy(), np.inf, 0.0)


def of_rows(elements: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Return the largest of what elements have in each row, ``(count,)``, without those of nobody."""
    largest = np.zeros(count)
    real = rows != NOBODY
    np.maximum.at(largest, rows[real], elements[real])
    return largest


def magnitude(slots: Slots, x: Any) -> float:
    """Return the largest finite magnitude in the rows of a tensor."""
    found = slots.elements(x)
    if found is None:
        return 0.0
    real = found.values.detach()[torch.from_numpy(found.rows != NOBODY).to(found.values.device)]
    finite = real[real.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0
