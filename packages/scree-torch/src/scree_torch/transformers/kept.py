"""What was read of a tensor, kept for the next layer that asks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch

T = TypeVar("T")
MOST = 8
"""Tensors that are remembered: those of one batch, and of one or two before it."""

_recent: OrderedDict[int, tuple[torch.Tensor, int, dict[Hashable, Any]]] = OrderedDict()


def kept(source: torch.Tensor, name: Hashable, make: Callable[[], T]) -> T:
    """Return what ``make`` reads of a tensor, once for all layers, until it is written to.

    Parameters
    ----------
    source : torch.Tensor
        Small: a mask, positions, offsets. It lives on until others have come in its place.
    name : hashable
        What is read.
    make : callable
        Reads it.

    Notes
    -----
    Tensors made in inference mode don't count how often they are written to, and are read each time.
    """
    if torch.compiler.is_compiling() or source.is_inference():
        return make()
    # The source is held, so that no other tensor gets its id.
    _, version, found = _recent.pop(id(source), (source, source._version, {}))
    if version != source._version:
        found = {}
    _recent[id(source)] = source, source._version, found
    while len(_recent) > MOST:
        _recent.popitem(last=False)
    if name not in found:
        found[name] = make()
    return found[name]
