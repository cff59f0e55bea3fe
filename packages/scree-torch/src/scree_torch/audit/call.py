"""One call of the model that is audited: its outputs, and the gradients that they send back to the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch

from scree_core import Array
from scree_torch.audit.inputs import Inputs, poisoned
from scree_torch.audit.outputs import in_columns, tensors_in
from scree_torch.audit.slots import NOBODY


class Seen(NamedTuple):
    """What came out of a call."""

    outputs: dict[str, Any]
    """Tensors and Arrays in which rows are seen, without their graphs."""
    gradients: dict[str, torch.Tensor]
    """Of what went into the model, or of embeddings of ids."""
    others: tuple[str, ...]
    """Outputs in which no rows are seen."""
    sources: tuple[str, ...]
    """What gradients are taken of, and NaN is put into: inputs, or the embeddings of ids."""


class Change(NamedTuple):
    """What is done to one row."""

    row: int | None
    """Whose part in the sum that gradients are of changes too: another one, or NaN."""
    inputs: Mapping[Any, Any]
    """Inputs in place of those of the batch."""
    nan: bool = False
    """Whether the row's inputs, or embeddings, are NaN."""


class Caller:
    """Calls the model, and leaves it as it was.

    Parameters
    ----------
    model : torch.nn.Module or callable
        The model.
    inputs : Inputs
        What it is called with.
    gradients : bool
        Whether gradients are taken.
    """

    def __init__(self, model: Any, inputs: Inputs, gradients: bool) -> None:
        self.model, self.inputs, self.gradients = model, inputs, gradients
        self.module = module = module_of(model)
        self.is_compiled = module is not None and any(_is_compiled(part) for part in module.modules())
        self.modules = dict(module.named_modules()) if module is not None and not self.is_compiled else {}

    def __call__(self, change: Change | None = None, trace: Any = None) -> Seen:
        """Call the model.

        Parameters
        ----------
        change : Change, optional
            What is different from the batch.
        trace : Trace, optional
            Sees the modules at work.
        """
        change = change or Change(None, {})
        changed, poison = dict(change.inputs), change.row if change.nan else None
        with ExitStack() as stack:
            stack.enter_context(_kept(self.module))
            stack.enter_context(torch.enable_grad() if self.gradients else torch.no_grad())
            arguments, leaves = self.inputs.leaves(changed, poison, self.gradients)
            changed |= arguments
            stack.enter_context(self._embeddings(changed, poison, leaves))
            stack.enter_context(trace if trace is not None else nullcontext())
            outputs = self.inputs.call(self.model, changed)
            rows, others, scalars = self._sorted(outputs)
            gradients = self._backward(rows, scalars, leaves, change) if self.gradients and leaves else {}
        return Seen({name: _detached(x) for name, x in rows.items()}, gradients, tuple(others), tuple(leaves))

    @contextmanager
    def _embeddings(
        self, changed: Mapping[Any, Any], poison: int | None, leaves: dict[str, torch.Tensor]
    ) -> Iterator[None]:
        """Have embeddings of the ids be leaves, and NaN in the row that is poisoned."""
        ids = self.inputs.ids(changed)

        def embed(module: Any, args: Any, kwargs: Any, out: Any) -> Any:
            given = args[0] if args else kwargs.get("input")
            if not isinstance(given, torch.Tensor) or not any(_is_same(given, each) for each in ids):
                return None
            leaf = poisoned(self.inputs.slots, out, poison).requires_grad_(self.gradients)
            name = names[module]
            leaves[name if name not in leaves else f"{name}, call {len(leaves)}"] = leaf
            return leaf

        names = {module: name for name, module in self.modules.items() if isinstance(module, torch.nn.Embedding)}
        handles = [module.register_forward_hook(embed, with_kwargs=True) for module in names]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _sorted(self, outputs: Any) -> tuple[dict[str, Any], list[str], list[torch.Tensor]]:
        """Return outputs in which rows are seen, the names of the others, and what is a loss."""
        rows, others, scalars = {}, [], []
        for name, x in tensors_in(outputs):
            if isinstance(x, torch.Tensor) and x.ndim == 0:
                scalars += [x] * x.requires_grad
            elif self.inputs.slots.elements(x) is None:
                others.append(name)
            else:
                rows[name] = x
        return rows, others, scalars

    def _backward(
        self, rows: dict[str, Any], scalars: list[torch.Tensor], leaves: dict[str, torch.Tensor], change: Change
    ) -> dict[str, torch.Tensor]:
        """Return the gradients of a sum over all rows, with random weights, and of the losses there are."""
        terms, leaves = list(scalars), dict(leaves)  # of which layers that are computed again make more
        generator = torch.Generator().manual_seed(0)
        for x in rows.values():
            found = self.inputs.slots.elements(x)
            if found is None or not found.values.requires_grad:
                continue
            flat = in_columns(found.values)
            wide = torch.float64 if flat.dtype is torch.float64 else torch.float32
            along = torch.randn(flat.shape[1], generator=generator).to(flat.device, flat.dtype)
            down = torch.randn(flat.shape[0], generator=generator, dtype=wide)
            if change.row is not None:
                down[torch.from_numpy(found.rows == change.row)] *= torch.nan if change.nan else -2.0
            down[torch.from_numpy(found.rows == NOBODY)] = 0.0
            terms.append(((flat @ along).to(wide) * down.to(flat.device)).sum())
        if not terms:
            return {}
        total = torch.stack([term.cpu().double() for term in terms]).sum()  # a model may lie on several devices
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        return {name: grad for name, grad in zip(leaves, found, strict=True) if grad is not None}


def _detached(x: Any) -> Any:
    return x.with_values(x.values.detach()) if isinstance(x, Array) else x.detach()


def _is_same(given: torch.Tensor, ids: torch.Tensor) -> bool:
    """Tell whether an embedding was given the ids: these, or a copy of them."""
    if given.numel() != ids.numel():
        return False
    return given.data_ptr() == ids.data_ptr() or torch.equal(given.flatten().cpu().long(), ids.flatten().cpu().long())


def module_of(model: Any) -> torch.nn.Module | None:
    """Return the module behind a callable: itself, or what a partial or a method is of; None for other functions."""
    while isinstance(model, partial):
        model = model.func
    owner = getattr(model, "__self__", model)
    return owner if isinstance(owner, torch.nn.Module) else None


def _is_compiled(module: torch.nn.Module) -> bool:
    """Tell whether a module runs as what was compiled of it, in which hooks may not be heard."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


@contextmanager
def _kept(module: torch.nn.Module | None) -> Iterator[None]:
    """Put buffers back to what they were."""
    buffers = list(module.buffers()) if module is not None else []
    copies = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, copy in zip(buffers, copies, strict=True):
                if not torch.equal(buffer, copy):
                    buffer.copy_(copy)
