"""What a run of the suite has seen: cases run, skipped with their reasons, and the budget's worst use."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest


@dataclass
class Entry:
    """One op on one backend."""

    ran: int = 0
    gradients: int = 0
    compiled: int = 0
    worst: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    """Reasons of ``why_not``, with how often."""

    def used(self, share: float) -> None:
        """Note the share of the error budget that a result used."""
        self.worst = max(self.worst, share)

    def add(self, other: Entry) -> None:
        """Take in what another process has seen of the same op."""
        self.ran += other.ran
        self.gradients += other.gradients
        self.compiled += other.compiled
        self.used(other.worst)
        for reason, times in other.skipped.items():
            self.skipped[reason] = self.skipped.get(reason, 0) + times


Ledger = dict[str, dict[str, Entry]]
"""Entries by suite (module and class), then op."""

KEY = pytest.StashKey[Ledger]()
SHARED = pytest.StashKey[bool]()
"""Set where this process is one of several that run the suite: what it hasn't run, another may have."""


def ledger_of(config: pytest.Config) -> Ledger:
    """Return the ledger of a pytest run."""
    return config.stash.setdefault(KEY, {})


def never_run(entries: dict[str, Entry]) -> dict[str, dict[str, int]]:
    """Return the ops of one suite that were skipped and nothing else, with the reasons."""
    return {op: entry.skipped for op, entry in entries.items() if entry.skipped and not entry.ran}


def table(ledger: Ledger) -> list[str]:
    """Return the lines of the closing table: for each op and backend, cases run and the worst share of the budget."""
    ops = list(dict.fromkeys(op for entries in ledger.values() for op in entries))
    names = [suite.rsplit(".", 1)[-1] for suite in ledger]
    width = max([12, *map(len, names)])
    lines = ["op".ljust(18) + "".join(name.rjust(width + 2) for name in names)]
    for op in ops:
        lines.append(op.ljust(18) + "".join(_cell(e.get(op)).rjust(width + 2) for e in ledger.values()))
    lines.append("cases run, those with gradients behind '+', those compiled behind '/' if any,")
    lines.append("and the largest share of the error budget used")
    for suite, entries in ledger.items():
        for op, entry in entries.items():
            lines += [f"{suite.rsplit('.', 1)[-1]} {op}: {n} skipped, {reason}" for reason, n in entry.skipped.items()]
    return lines


def _cell(entry: Entry | None) -> str:
    if entry is None or not (entry.ran or entry.compiled):
        return "-"
    compiled = f"/{entry.compiled}" if entry.compiled else ""
    return f"{entry.ran}+{entry.gradients}{compiled} {entry.worst:4.0%}"
