"""How an Array looks in a notebook: a bar for each row, and what padding would have cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scree_core.array.type import Array

MAX_BARS = 64
WIDTH, BAR, GAP = 480, 7, 2
INK, PAPER = "#0f766e", "#99f6e433"


def draw(arr: Array[Any]) -> str:
    """Return an HTML fragment: the repr, one bar a row against its padded width, and the padding's cost."""
    from html import escape  # takes a third of the time that importing scree may take

    lengths = np.diff(arr.backend.host_offsets(arr.layout))
    return (
        '<div style="font-family:monospace;line-height:1.5">'
        f"<div>{escape(repr(arr))}</div>{_bars(lengths)}<div>{escape(padding_cost(arr, lengths))}</div></div>"
    )


def padding_cost(arr: Array[Any], lengths: np.ndarray) -> str:
    """Say in one line what a padded copy would hold and waste."""
    if lengths.size == 0:
        return "no rows"
    padded = int(lengths.max()) * lengths.size
    total = int(lengths.sum())
    longest = f"rows of {lengths.min()} to {lengths.max()} elements"
    if padded == 0:
        return f"{longest}: nothing to pad"
    element = arr.backend.nbytes(arr.values) / max(1, arr.total_length)
    waste = 1 - total / padded
    return (
        f"{longest}; padding would take {padded:,} slots ({_bytes(padded * element)}) for {total:,} elements "
        f"({_bytes(total * element)}): {waste:.0%} of it empty"
    )


def _bars(lengths: np.ndarray) -> str:
    shown = lengths[:MAX_BARS]
    if shown.size == 0 or lengths.max() == 0:
        return ""
    unit = WIDTH / int(lengths.max())
    bars = "".join(
        f'<rect y="{i * (BAR + GAP)}" width="{WIDTH}" height="{BAR}" fill="{PAPER}"/>'
        f'<rect y="{i * (BAR + GAP)}" width="{n * unit:.1f}" height="{BAR}" fill="{INK}">'
        f"<title>row {i}: {n}</title></rect>"
        for i, n in enumerate(shown.tolist())
    )
    more = f"<div>… and {lengths.size - shown.size:,} more rows</div>" if lengths.size > shown.size else ""
    height = shown.size * (BAR + GAP)
    return f'<svg width="{WIDTH}" height="{height}" role="img" aria-label="row lengths">{bars}</svg>{more}'


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"
