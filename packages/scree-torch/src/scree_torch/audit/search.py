"""Changing rows one by one, and noting which others differ for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from scree_core.errors import ArgumentError
from scree_torch.audit.call import Caller, Change, Seen
from scree_torch.audit.outputs import became_nan, distances, magnitude, of_rows
from scree_torch.audit.report import WHAT, Leak, Origin, Report
from scree_torch.audit.slots import NOBODY
from scree_torch.audit.trace import Trace, first_backward, first_forward

PROBES = tuple(WHAT)


class Search:
    """The leaks found so far.

    Parameters
    ----------
    caller : Caller
        Calls the model.
    tolerance : float
        The share of the largest magnitude up to which differences count as none.
    seed : int
        Of the random contents.
    """

    def __init__(self, caller: Caller, tolerance: float, seed: int) -> None:
        self.caller, self.inputs, self.slots = caller, caller.inputs, caller.inputs.slots
        self.tolerance, self.seed = tolerance, seed
        self.found: list[Leak] = []
        self.origins: dict[tuple[str, str], Origin | None] = {}
        self.not_done: dict[str, str] = {}
        self.unmoved: set[int] = set()
        self.clean = Seen({}, {}, (), ())
        self._allowed: dict[tuple[str, str], float] = {}

    def begin(self) -> None:
        """Call the model with nothing changed, and check that there is something to see, twice the same.

        Raises
        ------
        ArgumentError
            There isn't.
        """
        self.clean = clean = self.caller()
        if not clean.outputs:
            raise ArgumentError(
                f"rows are seen in none of the model's outputs ({', '.join(clean.others) or 'there is no tensor'}): "
                f"none has an element for each slot {list(self.slots.grids)} or for each of {self.slots.count} rows; "
                "give a function that returns such"
            )
        for seen_in, tensors in self._clean_parts():
            for name, x in tensors.items():
                self._allowed[seen_in, name] = self.tolerance * magnitude(self.slots, x) if self.tolerance else 0.0
        self._check_finite()
        self._check_deterministic()
        if not clean.sources:
            why = (
                "the model is compiled, and hooks aren't heard" if self.caller.is_compiled else "none was given the ids"
            )
            self.not_done["nan" if not self.caller.gradients else "nan, and gradients"] = (
                f"there are no floating inputs, and of the modules torch.nn.Embedding {why}; give inputs_embeds"
            )
        elif self.caller.gradients and not clean.gradients:
            self.not_done["gradients"] = "no output is connected with the inputs by a graph"

    def probe(self, probe: str, row: int) -> None:
        """Change one row, and note which others that is seen in."""
        if probe == "nan" and (row == NOBODY or not self.clean.sources):
            return  # padding is hidden by adding to scores, through which NaN comes in nearly every model
        if probe == "change":
            change = Change(row, self.inputs.perturbed(row, torch.Generator().manual_seed(self.seed + row + 1)))
        else:
            change = Change(row, {}, nan=True)
        seen = self.caller(change)
        for seen_in, before in self._clean_parts():
            after = getattr(seen, seen_in)
            far = {name: self._far(probe, x, after.get(name)) for name, x in before.items()}
            if seen_in == "outputs" and row != NOBODY and not any(found[row] for found in far.values()):
                self.unmoved.add(row)
            if not self._note(far, seen_in, probe, row):
                continue
            # Gradients that differ only because outputs do have no origin of their own.
            if not {(probe, seen_in), (probe, "outputs")} & set(self.origins):
                self.origins[probe, seen_in] = self._origin(change, seen_in, row)

    def report(self, probes: Sequence[str], probed: Sequence[int]) -> Report:
        """Return what was found.

        Parameters
        ----------
        probes : sequence of str
            What was tried.
        probed : sequence of int
            The rows that it was tried with.
        """
        return Report(
            sorted(self.found, key=lambda leak: (PROBES.index(leak.probe), leak.seen_in != "outputs", leak.source)),
            rows=self.slots.count,
            probes=probes,
            probed=probed,
            perturbed=[str(name) for name in self.inputs.names],
            watched=[*self.clean.outputs, *(f"gradients of {name}" for name in self.clean.gradients)],
            unwatched=self.clean.others,
            origins=self.origins,
            not_done=self.not_done,
            unmoved=sorted(self.unmoved),
        )

    def _clean_parts(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        return ("outputs", self.clean.outputs), ("gradients", self.clean.gradients)

    def _far(self, probe: str, before: Any, after: Any) -> np.ndarray:
        """Return by how much each row of a tensor differs, ``(rows,)``."""
        known, found = self.slots.elements(before), None if after is None else self.slots.elements(after)
        if known is None:
            return np.zeros(self.slots.count)
        if found is None or found.values.shape != known.values.shape:
            return np.full(self.slots.count, np.inf)
        measure = distances if probe == "change" else became_nan
        return of_rows(measure(known.values, found.values), known.rows, self.slots.count)

    def _note(self, far: dict[str, np.ndarray], seen_in: str, probe: str, source: int) -> bool:
        """Add the rows that differ, and tell whether there are any."""
        before = len(self.found)
        for target in range(self.slots.count):
            sizes = {name: float(found[target]) for name, found in far.items()}
            over = {name: size for name, size in sizes.items() if size > self._allowed[seen_in, name]}
            if over and target != source:
                worst = max(over, key=lambda name: over[name])
                self.found.append(Leak(source, target, probe, seen_in, worst, over[worst]))
        return len(self.found) > before

    def _origin(self, change: Change, seen_in: str, row: int) -> Origin | None:
        """Return the first module in which the row that was changed shows in others."""
        before, after = self._traced(), self._traced(change)
        first = first_forward if seen_in == "outputs" else first_backward
        name = first(before, after, row)
        if name is not None:
            return Origin(name, type(self.caller.modules[name]).__name__, row)
        if seen_in == "gradients" and after.calls:
            return Origin("loss", "what is made of the outputs", row)
        return None

    def _traced(self, change: Change | None = None) -> Trace:
        trace = Trace(self.caller.modules, self.slots)
        self.caller(change, trace)
        return trace

    def _check_finite(self) -> None:
        for name, x in self.clean.outputs.items():
            known = self.slots.elements(x)
            if known is None or not known.values.is_floating_point():
                continue
            bad = of_rows(became_nan(torch.zeros_like(known.values), known.values), known.rows, self.slots.count)
            if bad.any():
                raise ArgumentError(
                    f"row {bad.argmax()} of {name} has NaN before anything is changed, so that nothing more would "
                    "show; mend the model or the batch first"
                )

    def _check_deterministic(self) -> None:
        """Refuse a model that gives something else when it is called with the same."""
        again = self.caller()
        for seen_in, tensors in self._clean_parts():
            for name, x in tensors.items():
                far = self._far("change", x, getattr(again, seen_in).get(name))
                if (far > self._allowed[seen_in, name]).any():
                    raise ArgumentError(
                        "the model isn't deterministic: called twice with the same batch, "
                        f"{'gradients of ' if seen_in == 'gradients' else ''}{name} differ by {far.max():.2g}, so that "
                        f"differences would show nothing{self._why_random(seen_in)}"
                    )

    def _why_random(self, seen_in: str) -> str:
        """Return which module it is, and what to do about it."""
        name = (first_forward if seen_in == "outputs" else first_backward)(self._traced(), self._traced())
        kind = "" if name is None else type(self.caller.modules[name]).__name__
        where = "" if name is None else f"; the first that does is {name or 'the model itself'} ({kind})"
        if seen_in == "outputs" and any(module.training for module in self.caller.modules.values()):
            return f"{where}. It is in training mode: call model.eval(), or set its dropout to 0"
        return f"{where}. Try torch.use_deterministic_algorithms(True), or set tolerance= above what is rounding"
