"""A pytest plugin for runs of the conformance suite: ``pytest -p scree_core.testing.plugin``.

``--require-device cuda`` makes a device that isn't there a failure instead of a skip. ``--every-dtype`` runs what
is compiled in every dtype; without it most cases are compiled in float32 alone, for it takes time. The run closes
with a table of what was shown. A run fails where a suite skipped every case of an op. Under pytest-xdist both add
up what the workers have seen, however the tests are distributed.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from scree_core.testing.ledger import SHARED, Entry, Ledger, ledger_of, never_run, table


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption(
        "--require-device",
        action="append",
        default=[],
        metavar="DEVICE",
        help="fail, rather than skip, where the conformance suite doesn't find this device",
    )
    parser.addoption(
        "--every-dtype",
        action="store_true",
        help="compile every case of the conformance suite in every dtype, not most of them in float32 alone",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell the suites of a worker that others run their tests too."""
    config.stash[SHARED] = hasattr(config, "workeroutput")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the closing table."""
    ledger = ledger_of(terminalreporter.config)
    if ledger:
        terminalreporter.section("scree conformance")
        for line in [*table(ledger), *_never_run(ledger)]:
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker has seen to the process that prints; there, fail if no case of some op ran."""
    output, ledger = getattr(session.config, "workeroutput", None), ledger_of(session.config)
    if output is not None:
        output["scree"] = {suite: {op: asdict(e) for op, e in entries.items()} for suite, entries in ledger.items()}
    elif _never_run(ledger) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _never_run(ledger: Ledger) -> list[str]:
    return [f"FAILED {suite}: no case ran of {never}" for suite, e in ledger.items() if (never := never_run(e))]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker has seen."""
    for suite, entries in getattr(node, "workeroutput", {}).get("scree", {}).items():
        merged = ledger_of(node.config).setdefault(suite, {})
        for op, seen in entries.items():
            merged.setdefault(op, Entry()).add(Entry(**seen))
