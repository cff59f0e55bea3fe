"""What an audit found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from scree_torch.audit.slots import NOBODY

MOST_LINES = 6
"""Sources that are listed of each kind; the others are counted."""
WHAT = {"change": "contents", "nan": "NaN"}
"""What shows in another row, by the probe."""


@dataclass(frozen=True)
class Leak:
    """One row that another one reaches.

    Attributes
    ----------
    source : int
        The row that was changed or poisoned; -1 for padding.
    target : int
        The row in which that was seen.
    probe : {"change", "nan"}
        What was done to the source.
    seen_in : {"outputs", "gradients"}
        Where it was seen.
    name : str
        The output, or the input that the gradient is of, which differs most.
    size : float
        The largest difference; infinite for NaN.
    """

    source: int
    target: int
    probe: str
    seen_in: str
    name: str
    size: float


@dataclass(frozen=True)
class Origin:
    """The first module in which rows reach each other.

    Attributes
    ----------
    module : str
        Its name in the model, empty for the model itself; "loss" where gradients differ before any module.
    kind : str
        Its class.
    source : int
        The row by which it was found.
    """

    module: str
    kind: str
    source: int


class Report(Sequence[Leak]):
    """The leaks of a model on one batch: a sequence, empty and so false where rows are kept apart.

    Attributes
    ----------
    rows : int
        How many rows the batch has.
    probes : tuple of str
        What was tried, "change" and "nan".
    probed : tuple of int
        Rows that it was tried with.
    perturbed : tuple of str
        Inputs that were changed.
    watched : tuple of str
        Outputs in which rows were looked at, and gradients, as "gradients of embed".
    unwatched : tuple of str
        Outputs in which no rows are seen.
    origins : dict
        The first module for each ``(probe, seen_in)`` in which there are leaks, None where no module is known. Where
        outputs leak gradients follow, and have none.
    not_done : dict
        What wasn't tried, and why.
    unmoved : tuple of int
        Rows whose own outputs stayed equal when they were changed: of these nothing was shown.
    """

    def __init__(
        self,
        leaks: Sequence[Leak],
        *,
        rows: int,
        probes: Sequence[str],
        probed: Sequence[int],
        perturbed: Sequence[str],
        watched: Sequence[str],
        unwatched: Sequence[str],
        origins: dict[tuple[str, str], Origin | None],
        not_done: dict[str, str],
        unmoved: Sequence[int],
    ) -> None:
        self._leaks = tuple(leaks)
        self.rows, self.probes, self.probed = rows, tuple(probes), tuple(probed)
        self.perturbed, self.watched, self.unwatched = tuple(perturbed), tuple(watched), tuple(unwatched)
        self.origins, self.not_done, self.unmoved = origins, not_done, tuple(unmoved)

    @overload
    def __getitem__(self, index: int) -> Leak: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Leak]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._leaks[index]

    def __len__(self) -> int:
        return len(self._leaks)

    def matrix(self, probe: str = "change", seen_in: str = "outputs") -> np.ndarray:
        """Return how far each row reaches each other one, ``(rows, rows)``: ``[source, target]``, 0 for not at all.

        Parameters
        ----------
        probe : {"change", "nan"}
            What was done to the source.
        seen_in : {"outputs", "gradients"}
            Where it was seen.
        """
        found = np.zeros((self.rows, self.rows))
        for leak in self._leaks:
            if (leak.probe, leak.seen_in) == (probe, seen_in) and leak.source != NOBODY:
                found[leak.source, leak.target] = leak.size
        return found

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        tried = f"{len(self.probed)} of {self.rows} rows" if len(self.probed) < self.rows else f"{self.rows} rows"
        verdict = "rows reach each other" if self else "no row reaches another"
        yield f"{verdict}: {tried}; changed: {', '.join(self.perturbed)}; watched: {', '.join(self.watched)}"
        for probe in WHAT:
            yield from self._lines_of(probe)
        if self and not any(leak.probe == "change" for leak in self._leaks) and "change" in self.probes:
            yield "contents reach no other row; NaN does, for a weight of zero times NaN is NaN"
        for what, why in self.not_done.items():
            yield f"not tried: {what}: {why}"
        if self.unwatched:
            yield f"not watched, for rows aren't seen in it: {', '.join(self.unwatched)}"
        if self.unmoved:
            yield f"nothing is shown of {_numbers(self.unmoved)}, which gave the same when changed themselves"

    def _lines_of(self, probe: str) -> Iterator[str]:
        for seen_in in ("outputs", "gradients"):
            chosen = [leak for leak in self._leaks if (leak.probe, leak.seen_in) == (probe, seen_in)]
            if not chosen:
                continue
            origin = self.origins.get((probe, seen_in))
            where = "" if origin is None else f", first in {origin.module or 'the model itself'} ({origin.kind})"
            yield f"{WHAT[probe]} of a row in the {seen_in} of another: {len(chosen)} pairs{where}"
            if seen_in == "gradients" and any(leak.seen_in == "outputs" for leak in self._leaks if leak.probe == probe):
                continue  # they follow from the outputs
            sources = dict.fromkeys(leak.source for leak in chosen)
            for source in list(sources)[:MOST_LINES]:
                yield self._line_of([leak for leak in chosen if leak.source == source])
            if len(sources) > MOST_LINES:
                yield f"  and {len(sources) - MOST_LINES} rows more"

    def _line_of(self, leaks: Sequence[Leak]) -> str:
        """Return the rows that one row reaches."""
        worst = max(leaks, key=lambda leak: leak.size)
        size = f", by up to {worst.size:.2g}" if np.isfinite(worst.size) else ""
        who = "padding" if worst.source == NOBODY else f"row {worst.source}"
        return f"  {who} in {_numbers([leak.target for leak in leaks])}{size} ({worst.name})"


def _numbers(rows: Sequence[int]) -> str:
    """Return row numbers, neighbours as ranges."""
    parts: list[list[int]] = []
    for row in sorted(rows):
        if parts and parts[-1][1] == row - 1:
            parts[-1][1] = row
        else:
            parts.append([row, row])
    word = "row" if len(rows) == 1 else "rows"
    return f"{word} " + ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)
