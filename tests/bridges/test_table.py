"""The table at the end of ``docs/bridges.md`` says what crossing the bridges does, and leaves none out."""

import os

import pytest

import scree

from .crossings import CROSSINGS, NO_CROSSINGS
from .table import PAGE, lacking, measured, on_page, version

PINNED = os.environ.get("SCREE_BRIDGED", "").split(",")
"""Of these ``nox -s bridges`` has the versions that the page names; whoever has others isn't to fail by it."""
MEND = "write it anew: python tests/bridges/table.py --write"


def test_every_bridge_is_in_the_table():
    crossed = {crossing.bridge for crossing in CROSSINGS}
    assert set(scree.bridges.__all__) - crossed == set(NO_CROSSINGS), "give it an entry in tests/bridges/crossings.py"


def test_a_system_has_one_line_for_each_direction():
    keys = [crossing.key for crossing in CROSSINGS]
    assert len(set(keys)) == len(keys)
    assert {direction for _, direction in keys} == {"there", "back"}
    assert list(on_page()) == keys, MEND


@pytest.mark.filterwarnings("ignore")  # other libraries' own
@pytest.mark.parametrize("crossing", CROSSINGS, ids=str)
def test_the_page_says_what_is_measured(crossing):
    if missing := lacking(crossing):
        pytest.skip(f"{missing[0]} isn't installed")
    *facts, tested = on_page()[crossing.key]
    assert measured(crossing) == facts, MEND
    if crossing.distribution in PINNED:
        assert version(crossing) == tested, MEND


def test_the_table_ends_the_page():
    assert PAGE.read_text(encoding="utf-8").endswith("<!-- measured: end -->\n")
