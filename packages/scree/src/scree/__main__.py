"""``python -m scree``: what is installed and whether it works; ``demo`` and ``audit`` show more."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from scree_core import __version__, backends
from scree_core.errors import BackendNotInstalledError

COMMANDS = """commands:
  demo   run the quickstart: NumPy, a few seconds
  audit  audit small models for documents that hear of each other: PyTorch, a few seconds;
         for your own: scree.audit.leaks(model, batch)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit status: 1 if a backend is broken or an audit fails, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m scree",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print the versions and the state of every backend; exit with 1 if an installed one is broken.",
        epilog=COMMANDS,
    )
    parser.add_argument("command", nargs="?", choices=["demo", "audit"], help="something else instead")
    parser.add_argument("--version", action="version", version=f"scree {__version__}")
    command = parser.parse_args(arguments).command
    if command == "demo":
        from scree import demo

        demo.main()
        return 0
    if command == "audit":
        return _audit()
    from scree import report

    states = backends()
    print(report.render(states))
    return int(any(state.state == "broken" for state in states))


def _audit() -> int:
    try:
        import scree.audit  # noqa: F401  # says what to install where there is no PyTorch
    except BackendNotInstalledError as error:
        print(error, file=sys.stderr)
        return 1
    from scree import show_audit

    return show_audit.main()


if __name__ == "__main__":
    sys.exit(main())
