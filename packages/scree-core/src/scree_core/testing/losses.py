"""What a reduced loss hands back to the losses it is made of: written out here, apart from the op."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from scree_core.array import Array


def cotangent_of_losses(
    d_out: np.ndarray,
    logits: Array[np.ndarray],
    labels: Any,
    *,
    shift: bool = True,
    reduction: str = "token_mean",
    num_items: Any = None,
    ignore_index: int = -100,
) -> np.ndarray:
    """Return the cotangent of each element's loss, given that of what ``varlen_cross_entropy`` returned.

    Parameters
    ----------
    d_out : array
        Cotangent of the result: ``(total,)``, ``(batch,)`` or a scalar, by the reduction.
    logits, labels, shift, reduction, num_items, ignore_index
        As given to ``varlen_cross_entropy``, on NumPy arrays without a tail.
    """
    if reduction == "none":
        return d_out
    plain = labels.values if isinstance(labels, Array) else labels
    offsets = logits.offsets.tolist()
    spans = [(start, stop - 1 if shift else stop) for start, stop in itertools.pairwise(offsets)]
    counts = [sum(int(plain[i + shift]) != ignore_index for i in range(*span)) for span in spans]
    weights = np.zeros(logits.total_length)
    for row, (start, stop) in enumerate(itertools.pairwise(offsets)):
        if reduction in ("sum", "row_sum"):
            weight = 1.0
        elif reduction == "token_mean":
            weight = 1 / max(1, sum(counts) if num_items is None else int(num_items))
        else:
            rows = sum(count > 0 for count in counts) if num_items is None else int(num_items)
            weight = 1 / max(1, counts[row]) / max(1, rows)
        weights[start:stop] = weight * (d_out[row] if reduction == "row_sum" else d_out)
    return weights
