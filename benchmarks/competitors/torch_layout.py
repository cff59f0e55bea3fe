"""Packing and padding in PyTorch: scree's call, and the one call of PyTorch that moves the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from workloads import Layout

import scree

Call = Callable[[], Any]


def candidates(workload: Layout) -> dict[str, tuple[Call, Call, str]]:
    """Return for each op scree's call, PyTorch's call, and its name."""
    arr = scree.from_lengths(torch.from_numpy(workload.values()), workload.lengths)
    rows = scree.unpack(arr)
    padded, mask = scree.to_padded(arr)
    return {
        "pack": (lambda: scree.pack(rows), lambda: torch.cat(rows), "torch.cat"),
        "unpack": (lambda: scree.unpack(arr), lambda: torch.split(arr.values, workload.lengths), "torch.split"),
        "to_padded": (lambda: scree.to_padded(arr), lambda: pad_sequence(rows, batch_first=True), "pad_sequence"),
        "from_padded": (lambda: scree.from_padded(padded, mask), lambda: padded[mask], "a boolean index"),
    }
