"""Where in a model rows begin to differ: the first module that is given what it was given before, and returns else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree

from scree_core import Array
from scree_torch.audit.outputs import AT_ONCE, in_columns, tensors_in
from scree_torch.audit.slots import NOBODY, Slots

Seen = dict[int, tuple[np.ndarray, np.ndarray]]
"""Of each tensor, by its place, a number for each element, and the elements' rows."""


class Call(NamedTuple):
    """A call of a module."""

    name: str
    given: Seen
    returned: Seen
    sent_back: Seen
    """Gradients of what it was given."""
    got_back: Seen
    """Gradients of what it returned."""


class Trace:
    """Keeps of every call of a module one number for each element of what went in and came out, and of its gradient.

    Parameters
    ----------
    modules : mapping
        The modules by their names.
    slots : Slots
        The rows of the batch.

    Notes
    -----
    The number is the element's sum with random weights, in float64: elements that differ have different ones, but where
    the weights cancel. So a trace of a whole model is small.
    """

    def __init__(self, modules: Mapping[str, torch.nn.Module], slots: Slots) -> None:
        self.modules, self.slots = modules, slots
        self.calls: dict[tuple[str, int], Call] = {}
        """In the order in which they end."""
        self._counts: Counter[str] = Counter()
        self._open: dict[str, list[tuple[Seen, Seen]]] = {name: [] for name in modules}
        self._handles: list[Any] = []

    def __enter__(self) -> Trace:
        for name, module in self.modules.items():
            self._handles.append(module.register_forward_pre_hook(self._beginning(name), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._ending(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _beginning(self, name: str) -> Callable[..., Any]:
        def begin(_: torch.nn.Module, args: Any, kwargs: Any) -> Any:
            args, kwargs = _aliased((args, kwargs))
            self._open[name].append(self._seen((args, kwargs)))
            return args, kwargs

        return begin

    def _ending(self, name: str) -> Callable[..., None]:
        def end(_: torch.nn.Module, __: Any, out: Any) -> None:
            given, sent_back = self._open[name].pop()
            returned, got_back = self._seen(out)
            self.calls[name, self._counts[name]] = Call(name, given, returned, sent_back, got_back)
            self._counts[name] += 1

        return end

    def _seen(self, value: Any) -> tuple[Seen, Seen]:
        """Return what is in the tensors, and where their gradients will be."""
        now: Seen = {}
        later: Seen = {}
        for at, (_, x) in enumerate(tensors_in(value)):
            tensor = x.values if isinstance(x, Array) else x
            if not tensor.is_floating_point() or not _keep(now, at, self.slots, x):
                continue
            if tensor.requires_grad and torch.is_grad_enabled():
                tensor.register_hook(self._keeping(later, at, x))
        return now, later

    def _keeping(self, later: Seen, at: int, x: Any) -> Callable[[torch.Tensor], None]:
        layout = x.layout if isinstance(x, Array) else None

        def keep(grad: torch.Tensor) -> None:
            _keep(later, at, self.slots, grad if layout is None else Array.trusted(grad, layout))

        return keep


def _aliased(arguments: Any) -> Any:
    """Return what a module is given as tensors of its own, whose gradients are what this call alone sends back."""
    aliases: dict[int, torch.Tensor] = {}

    def alias(x: torch.Tensor) -> torch.Tensor:
        if not x.requires_grad or not torch.is_grad_enabled():
            return x
        return aliases.setdefault(id(x), x.view_as(x))

    return pytree.tree_map_only(torch.Tensor, alias, arguments)


def _keep(seen: Seen, at: int, slots: Slots, x: Any) -> bool:
    """Note a tensor, if rows are seen in it."""
    found = slots.elements(x)
    if found is None:
        return False
    flat = in_columns(found.values.detach())
    weights = torch.randn(flat.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = weights.to(flat.device)
    # No product of matrices, in which the number of one element may depend on how many others there are.
    numbers = [(part.double() * weights).sum(1) for part in flat.split(AT_ONCE)]
    seen[at] = torch.cat(numbers).cpu().numpy() if numbers else np.zeros(0), found.rows
    return True


def first_forward(before: Trace, after: Trace, source: int | None = None) -> str | None:
    """Return the name of the first module that was given equal rows and returned others, None where there is none.

    Parameters
    ----------
    before, after : Trace
        Of two calls of the model.
    source : int, optional
        The row that differs by intention, and is left out.
    """
    for known, call in _pairs(before, after):
        if _differ(known.returned, call.returned, source) and not _differ(known.given, call.given, source):
            return call.name
    return None


def first_backward(before: Trace, after: Trace, source: int | None = None) -> str | None:
    """Return the name of the last module that got equal gradients and sent back others: backward's first."""
    found = [
        call.name
        for known, call in _pairs(before, after)
        if _differ(known.sent_back, call.sent_back, source) and not _differ(known.got_back, call.got_back, source)
    ]
    inner = [name for name in found if not any(_is_inside(other, name) for other in found)]
    return inner[-1] if inner else None


def _is_inside(name: str, outer: str) -> bool:
    return name != outer and (outer == "" or name.startswith(f"{outer}."))


def _pairs(before: Trace, after: Trace) -> list[tuple[Call, Call]]:
    return [(before.calls[key], call) for key, call in after.calls.items() if key in before.calls]


def _differ(before: Seen, after: Seen, source: int | None) -> bool:
    for at, (numbers, rows) in after.items():
        if at not in before or before[at][0].shape != numbers.shape:
            continue
        others = (rows != NOBODY) & (rows != source)
        if not np.array_equal(before[at][0][others], numbers[others], equal_nan=True):
            return True
    return False
