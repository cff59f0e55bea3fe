"""Every Python block of README.md and docs/ runs as a test; every run knows the conformance suite's options."""

import os
from doctest import ELLIPSIS
from importlib.util import find_spec

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

pytest_plugins = ["scree_core.testing.plugin"]


def lacks(name: str) -> bool:
    """Tell whether blocks about a backend are to be skipped; never where SCREE_REQUIRE names it.

    For the pages: ``<!-- skip: start if(lacks("torch"), reason="scree-torch isn't installed") -->``.
    """
    return name not in os.environ.get("SCREE_REQUIRE", "").split(",") and find_spec(f"scree_{name}") is None


def lacks_library(name: str) -> bool:
    """Tell whether blocks about a library without a backend are to be skipped; never where SCREE_REQUIRE names it."""
    return name not in os.environ.get("SCREE_REQUIRE", "").split(",") and find_spec(name) is None


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=lambda namespace: namespace.update(lacks=lacks, lacks_library=lacks_library),
).pytest()
