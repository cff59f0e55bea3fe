"""What a model is called with, which of it is perturbed, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from scree_core import Array
from scree_core.errors import ArgumentError, ArgumentTypeError
from scree_torch.audit.slots import NOBODY, Slots, slots_of

USUAL = ("input_ids", "inputs_embeds", "input_values", "input_features", "decoder_input_ids", "labels")
"""What models of transformers are given for each token, or each row."""

LASTING = (torch.Tensor, Array, str, int, float, type(None))
"""What a model doesn't change by being called."""


class Inputs:
    """The arguments of a call, and the rows of those that are perturbed.

    Parameters
    ----------
    batch : mapping, tuple or list, or anything else
        Keyword arguments, positional ones, or the only one.
    names : sequence of str or int, optional
        What is perturbed: keys, or places among positional arguments.
    rows : array of whole numbers, optional
        The row of each slot.
    keep : iterable of int
        Ids that stay what they are.

    Raises
    ------
    ArgumentError
        A name is none of the batch, or there is nothing to perturb.
    """

    def __init__(self, batch: Any, names: Sequence[Any] | None, rows: Any, keep: Iterable[int]) -> None:
        self.is_mapping = isinstance(batch, Mapping)
        if isinstance(batch, Mapping):
            self.all: dict[Any, Any] = dict(batch)
        else:
            self.all = dict(enumerate(batch if isinstance(batch, (tuple, list)) else (batch,)))
        self.all = {name: _usable(x) for name, x in self.all.items()}
        self.names = self._chosen(names)
        self.slots = slots_of(self.all, self.names, rows)
        self.keep = sorted({int(number) for number in keep})
        unseen = [name for name in self.names if self.slots.elements(self.all[name]) is None]
        if names is None:  # such as one label for a whole batch of packed rows
            self.names = [name for name in self.names if name not in unseen]
        elif unseen:
            raise ArgumentError(
                f"{unseen[0]!r} of shape {tuple(_tensor(self.all[unseen[0]]).shape)} has no element for each slot "
                f"{list(self.slots.grids)}, nor one for each of {self.slots.count} rows; leave it out of inputs="
            )

    def _chosen(self, names: Sequence[Any] | None) -> list[Any]:
        if names is not None:
            names = [names] if isinstance(names, (str, int)) else list(names)
            for name in names:
                if name not in self.all:
                    raise ArgumentError(f"inputs={name!r} is none of what the batch has: {list(self.all)}")
                _check_perturbable(name, self.all[name])
            if not names:
                raise ArgumentError("inputs=() perturbs nothing; name what belongs to rows, or leave it out")
            return names
        found = {name: x for name, x in self.all.items() if isinstance(x, (torch.Tensor, Array))}
        usual = [name for name in USUAL if name in found]
        floats = [name for name, x in found.items() if _tensor(x).is_floating_point()]
        # Rows lie in the first of them, so that Arrays, which tell their rows, come first.
        arrays = [name for name, x in found.items() if isinstance(x, Array)]
        chosen = usual or arrays or floats or list(found)[:1]
        if not chosen:
            raise ArgumentError(
                f"there is nothing to perturb among {list(self.all)}: the batch needs a tensor or a scree.Array"
            )
        for name in chosen:
            _check_perturbable(name, self.all[name])
        return chosen

    def call(self, model: Any, changed: dict[Any, Any]) -> Any:
        """Call the model, with some of the arguments changed, and others, such as caches, as they were given."""
        arguments = {name: x if isinstance(x, LASTING) else deepcopy(x) for name, x in (self.all | changed).items()}
        return model(**arguments) if self.is_mapping else model(*arguments.values())

    def perturbed(self, row: int, generator: torch.Generator) -> dict[Any, Any]:
        """Return the inputs with other contents in one row, or in padding.

        Whole numbers become others that occur in the same input: all of them valid, and where none are negative as
        ignored labels are. Floating ones get noise as large as they are.
        """
        return {name: self._with(name, row, generator) for name in self.names}

    def _with(self, name: Any, row: int, generator: torch.Generator) -> Any:
        x = self.all[name]
        values, rows = self._elements(x)
        here = torch.from_numpy(rows == row)
        flat = values.detach().cpu().clone()
        if flat.is_floating_point():
            finite = flat[flat.isfinite()].float()
            scale = finite.std().item() if finite.numel() > 1 else 0.0
            noise = torch.randn(flat[here].shape, generator=generator) * (scale or 1.0)
            flat[here] += noise.to(flat.dtype)
        else:
            can = (flat >= 0) & ~torch.isin(flat, torch.tensor(self.keep, dtype=flat.dtype))
            owned = torch.from_numpy(rows != NOBODY)
            known = flat[can & owned.view(-1, *[1] * (flat.ndim - 1))].unique()
            at = can & here.view(-1, *[1] * (flat.ndim - 1))
            if known.numel() > 1 and at.any():
                steps = torch.randint(1, known.numel(), (int(at.sum()),), generator=generator)
                flat[at] = known[(torch.searchsorted(known, flat[at]) + steps) % known.numel()]
        return self._rebuilt(x, flat)

    def leaves(
        self, changed: Mapping[Any, Any], poison: int | None, gradients: bool
    ) -> tuple[dict[Any, Any], dict[str, torch.Tensor]]:
        """Return floating inputs as leaves, which gradients are taken of, NaN in the row that is poisoned."""
        arguments, leaves = {}, {}
        for name in self.names:
            x = changed.get(name, self.all[name])
            if _tensor(x).is_floating_point():
                leaf = poisoned(self.slots, x, poison).requires_grad_(gradients)
                arguments[name] = x.with_values(leaf) if isinstance(x, Array) else leaf
                leaves[str(name)] = leaf
        return arguments, leaves

    def ids(self, changed: Mapping[Any, Any]) -> list[torch.Tensor]:
        """Return the whole numbers that are perturbed."""
        tensors = [_tensor(changed.get(name, self.all[name])) for name in self.names]
        return [x for x in tensors if not x.is_floating_point()]

    def _elements(self, x: Any) -> tuple[torch.Tensor, np.ndarray]:
        found = self.slots.elements(x)
        assert found is not None, "names were chosen so that rows are seen in all of them"
        return found

    def _rebuilt(self, x: Any, flat: torch.Tensor) -> Any:
        if isinstance(x, Array):
            return x.with_values(flat.to(x.values.device))
        return _as_it_was(flat, x).to(x.device)


def poisoned(slots: Slots, x: Any, row: int | None) -> torch.Tensor:
    """Return a copy of a tensor, or of an Array's, without a graph: NaN in one row, if rows are seen in it."""
    tensor, found = _tensor(x).detach(), slots.elements(x)
    if row is None or found is None:
        return tensor.clone()
    flat = found.values.detach().clone()
    flat[torch.from_numpy(found.rows == row).to(flat.device)] = torch.nan
    return _as_it_was(flat, tensor)


def _as_it_was(flat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Undo what ``Slots.elements`` did to a tensor."""
    if x.ndim == 4 and flat.ndim == 3 and flat.shape[1:] != x.shape[2:]:
        batch, heads, length, dim = x.shape
        return flat.view(batch, length, heads, dim).transpose(1, 2)
    return flat.reshape(x.shape)


def _check_perturbable(name: Any, x: Any) -> None:
    tensor = _tensor(x) if isinstance(x, (torch.Tensor, Array)) else None
    if tensor is None:
        raise ArgumentTypeError(f"{name!r} is {type(x).__name__}; what is perturbed must be a tensor or a scree.Array")
    if not isinstance(tensor, torch.Tensor) or tensor.is_nested:
        raise ArgumentTypeError(f"{name!r} must hold a dense tensor of PyTorch; give a scree.Array of one for rows")
    if tensor.dtype is torch.bool or tensor.is_complex():
        raise ArgumentTypeError(f"{name!r} is {tensor.dtype}; what is perturbed must be whole or real numbers")


def _usable(x: Any) -> Any:
    if isinstance(x, torch.Tensor) and x.is_inference():
        return x.clone()
    if isinstance(x, Array) and isinstance(x.values, torch.Tensor) and x.values.is_inference():
        return Array(x.values.clone(), x.offsets.clone(), tail=x.layout.tail)
    return x


def _tensor(x: Any) -> Any:
    return x.values if isinstance(x, Array) else x
