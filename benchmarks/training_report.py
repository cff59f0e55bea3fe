"""What draws of ``transformers_training.py`` say together: figures a token, as medians, and savings draw by draw."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from harness import Row

AGAINST = "sdpa, padded"


@dataclass
class Draw:
    """One batch, and what each candidate took for it."""

    kind: str
    source: str
    seed: int
    rows: int
    tokens: int
    longest: int
    ms: dict[str, float] = field(default_factory=dict)
    mib: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def waste(self) -> float:
        """The share of the padded batch that is padding."""
        return 1 - self.tokens / (self.rows * self.longest)

    def a_token(self, candidate: str, unit: str) -> float:
        """Return a candidate's time in us, or memory in KiB, for each real token."""
        return (self.ms[candidate] * 1e3 if unit == "us" else self.mib[candidate] * 1024) / self.tokens

    def saved(self, candidate: str, unit: str) -> float:
        """Return the share of the time or memory of padding that a candidate doesn't take."""
        return 1 - self.a_token(candidate, unit) / self.a_token(AGAINST, unit)


def line(draw: Draw) -> str:
    """Return the figures of one draw."""
    title = f"{draw.kind}, {draw.source}, seed {draw.seed}: {draw.tokens:,} tokens, padding {draw.waste:.0%}"
    each = [f"\n    {name:18} {ms:10,.1f} ms {draw.mib[name]:10,.1f} MiB" for name, ms in draw.ms.items()]
    return title + "".join(each) + "".join(f"\n    {name}: left out: {why}" for name, why in draw.left_out.items())


def summaries(draws: list[Draw]) -> dict[str, list[Row]]:
    """Return two tables for each kind of batch: time and peak memory, against padding on PyTorch's attention."""
    tables = {}
    for kind, source in dict.fromkeys((draw.kind, draw.source) for draw in draws):
        of = [draw for draw in draws if (draw.kind, draw.source) == (kind, source)]
        tokens, waste = sorted(draw.tokens for draw in of), sorted(draw.waste for draw in of)
        title = (
            f"{kind}, {source}: {len(of)} draws, {tokens[0]:,} to {tokens[-1]:,} tokens, padding {waste[0]:.0%} to "
            f"{waste[-1]:.0%}, median {statistics.median(waste):.0%}"
        )
        for what, unit in (("time", "us"), ("peak memory", "KiB")):
            if rows := _rows(of, unit):
                tables[f"{title}; {what} a token"] = rows
    return tables


def markdown(draws: list[Draw]) -> str:
    """Return the figures as a table for a guide: medians, and of savings the least and the most too."""
    lines = ["| | tokens/s | time saved | KiB a token | memory saved |", "| --- | --- | --- | --- | --- |"]
    for kind, source in dict.fromkeys((draw.kind, draw.source) for draw in draws):
        of = [draw for draw in draws if (draw.kind, draw.source) == (kind, source)]
        waste = statistics.median(draw.waste for draw in of)
        lines.append(f"| **{kind}, {source}**: {len(of)} draws, padding {waste:.0%} at median | | | | |")
        for name in dict.fromkeys(name for draw in of for name in draw.ms):
            found, both = comparable(of, name)
            times, kib = (statistics.median(draw.a_token(name, unit) for draw in found) for unit in ("us", "KiB"))
            saved = ["-", "-"] if name == AGAINST or not both else [_span(found, name, unit) for unit in ("us", "KiB")]
            count = "" if len(found) == len(of) else f" ({len(found)} of {len(of)} draws)"
            lines.append(f"| {name}{count} | {1e6 / times:,.0f} | {saved[0]} | {kib:,.1f} | {saved[1]} |")
    return "\n".join(lines).replace("%", " %")


def _span(draws: list[Draw], name: str, unit: str) -> str:
    saved = sorted(draw.saved(name, unit) for draw in draws)
    return f"{statistics.median(saved):z.0%} ({saved[0]:z.0%} to {saved[-1]:z.0%})"


def comparable(draws: list[Draw], name: str) -> tuple[list[Draw], bool]:
    """Return the draws for which a candidate and the one that pads both have figures, or else its own; and whether."""
    own = [draw for draw in draws if name in draw.ms]
    both = [draw for draw in own if AGAINST in draw.ms]
    return both or own, bool(both)


def _rows(draws: list[Draw], unit: str) -> list[Row]:
    """Compare each candidate with the one that pads, in the draws that both have; with itself where that has none."""
    names = dict.fromkeys(name for draw in draws for name in draw.ms)
    rows = []
    for name in names:
        found, both = comparable(draws, name)
        against = AGAINST if both else name
        ours, theirs = (statistics.median(draw.a_token(each, unit) for draw in found) for each in (name, against))
        said = f"saves {_span(found, name, unit)}" if both else f"nothing to compare with: {AGAINST} has no figures"
        if unit == "us":
            said += f"; {1e6 / ours:,.0f} tokens/s"
        if len(found) < len(draws):
            said += f"; {len(found)} of {len(draws)} draws"
        rows.append(Row(name, ours, against, theirs, said, f"{unit}/token"))
    return rows
