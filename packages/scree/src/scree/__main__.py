"""``python -m scree``: what is installed and whether it works; ``python -m scree demo``: the quickstart."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from scree_core import __version__, backends


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit status: 1 if an installed backend is broken, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m scree",
        description="Print the versions and the state of every backend; exit with 1 if an installed one is broken.",
    )
    parser.add_argument("command", nargs="?", choices=["demo"], help="run the quickstart instead: NumPy, a few seconds")
    parser.add_argument("--version", action="version", version=f"scree {__version__}")
    if parser.parse_args(arguments).command == "demo":
        from scree import demo

        demo.main()
        return 0
    from scree import report

    states = backends()
    print(report.render(states))
    return int(any(state.state == "broken" for state in states))


if __name__ == "__main__":
    sys.exit(main())
