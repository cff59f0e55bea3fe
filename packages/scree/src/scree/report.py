"""What ``python -m scree`` prints: versions, the state of each backend, and who provides which op."""

from __future__ import annotations

import platform
import textwrap

from scree_core import BackendState, __version__, backends
from scree_core.backend import OPS
from scree_core.backends import versions
from scree_core.dispatch import ENVIRONMENT

WIDTH = 80


def render(states: list[BackendState] | None = None) -> str:
    """Return the report on these backends, by default on all there are.

    Parameters
    ----------
    states : list of BackendState, optional
        As from ``scree.backends``.

    Returns
    -------
    str
        In ASCII, 80 columns wide but for long names and commands.
    """
    states = backends() if states is None else states
    return "\n\n".join([_heading(), _state_table(states), _op_table([s for s in states if s.state == "ok"])])


def _heading() -> str:
    found = versions()
    asked = f"\nSCREE_BACKEND={ENVIRONMENT}" if ENVIRONMENT else ""
    return (
        f"scree {__version__}\n"
        f"Python {found['python']} on {found['platform']} {platform.machine()}, NumPy {found['numpy']}{asked}"
    )


def _state_table(states: list[BackendState]) -> str:
    names = max(len(s.name) for s in states)
    numbers = max(len(s.version or "") for s in states)
    lines = []
    for s in states:
        start = f"  {s.name:{names}}  {s.version or '-':{numbers}}  "
        told = s.state if s.reason is None else f"{s.state}: {s.reason}"
        lines += textwrap.wrap(
            told,
            WIDTH,
            initial_indent=start,
            subsequent_indent=" " * len(start),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(["Backends", *lines])


def _op_table(states: list[BackendState]) -> str:
    first = max(map(len, OPS))
    widths = {s.name: max(len(s.name), len("default")) for s in states}
    lines = [" ".join(["Ops".ljust(first + 2), *(f" {s.name:{widths[s.name]}}" for s in states)])]
    for op in OPS:
        lines.append(" ".join([f"  {op:{first}}", *(f" {s.ops.get(op, '-'):{widths[s.name]}}" for s in states)]))
    lines.append("native: written for the library. default: scree's reference on its arrays.")
    if any(set(OPS) - set(s.ops) for s in states):
        lines.append("-: left to the backend that the overlay lies over.")
    return "\n".join(line.rstrip() for line in lines)
