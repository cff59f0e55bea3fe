"""Packing and padding in MLX: scree's call, and the one call of MLX that moves the same bytes, both evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from workloads import Layout

import scree

Call = Callable[[], Any]


def candidates(workload: Layout) -> dict[str, tuple[Call, Call, str]]:
    """Return for each op scree's call, MLX's call, and its name."""
    arr = scree.from_lengths(mx.array(workload.values()), workload.lengths)
    rows = scree.unpack(arr)
    padded, mask = scree.to_padded(arr)
    mx.eval(arr.values, arr.offsets, rows, padded, mask)
    lengths = np.array(workload.lengths)
    starts, width = np.cumsum(lengths) - lengths, int(lengths.max())
    cells = np.where(np.arange(width) < lengths[:, None], starts[:, None] + np.arange(width), 0)
    to_padded, from_padded = (mx.array(index.astype(np.int32)) for index in (cells, np.flatnonzero(np.asarray(mask))))
    flat = padded.reshape(-1, workload.features)

    def scree_pads() -> None:
        mx.eval(*scree.to_padded(arr))

    return {
        "pack": (
            lambda: mx.eval(scree.pack(rows).values),
            lambda: mx.eval(mx.concatenate(rows)),
            "mx.concatenate",
        ),
        "unpack": (
            lambda: mx.eval(scree.unpack(arr)),
            lambda: mx.eval(mx.split(arr.values, starts[1:].tolist())),
            "mx.split",
        ),
        "to_padded": (scree_pads, lambda: mx.eval(mx.take(arr.values, to_padded, axis=0)), "mx.take"),
        "from_padded": (
            lambda: mx.eval(scree.from_padded(padded, mask).values),
            lambda: mx.eval(mx.take(flat, from_padded, axis=0)),
            "mx.take",
        ),
    }
