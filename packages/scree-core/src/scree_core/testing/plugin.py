"""A pytest plugin for runs of the conformance suite: ``pytest -p scree_core.testing.plugin``.

``--require-device cuda`` makes a device that isn't there a failure instead of a skip, and the run closes
with a table of what was shown. Works under pytest-xdist; where ``why_not`` skips calls, distribute by
``--dist loadscope``, for a class fails on the worker where an op had skips alone.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from scree_core.testing.ledger import Entry, ledger_of, table


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--require-device``."""
    parser.addoption(
        "--require-device",
        action="append",
        default=[],
        metavar="DEVICE",
        help="fail, rather than skip, where the conformance suite doesn't find this device",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the closing table."""
    ledger = ledger_of(terminalreporter.config)
    if ledger:
        terminalreporter.section("scree conformance")
        for line in table(ledger):
            terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker has seen to the process that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        ledger = ledger_of(session.config)
        output["scree"] = {suite: {op: asdict(e) for op, e in entries.items()} for suite, entries in ledger.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker has seen."""
    for suite, entries in getattr(node, "workeroutput", {}).get("scree", {}).items():
        merged = ledger_of(node.config).setdefault(suite, {})
        for op, seen in entries.items():
            merged.setdefault(op, Entry()).add(Entry(**seen))
