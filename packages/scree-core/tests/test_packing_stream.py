"""The streaming packer: nothing is lost, its memory is bounded, and its state goes on at every point."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scree_core as scree
from scree_core.packing import Packer, Piece

LENGTHS = st.lists(st.integers(0, 30), max_size=40)
OPTIONS = st.fixed_dictionaries(
    {
        "capacity": st.sampled_from([4, 8, 12, 24]),
        "over": st.sampled_from(["truncate", "split", "drop"]),
        "open_bins": st.integers(1, 4),
        "max_rows": st.none() | st.integers(1, 4),
        "multiple_of": st.sampled_from([1, 4]),
    }
)


def run(packer, lengths):
    return [bin for length in lengths for bin in packer.add(length)]


@given(LENGTHS, OPTIONS)
def test_every_element_is_in_one_bin_and_few_bins_are_open(lengths, options):
    packer = Packer(**options)
    bins = []
    for length in lengths:
        bins += packer.add(length)
        assert len(packer.state_dict()["open"]) <= options["open_bins"]
    bins += packer.flush()
    assert packer.flush() == []
    capacity, unit = options["capacity"], options["multiple_of"]
    seen = {}
    for pieces in bins:
        assert 1 <= len(pieces) <= (options["max_rows"] or len(pieces))
        assert sum(-(-piece.length // unit) * unit for piece in pieces) <= capacity
        for item, start, length in pieces:
            seen.setdefault(item, []).append((start, length))
    for row, length in enumerate(lengths):
        if options["over"] == "drop" and length > capacity:
            assert row not in seen
            continue
        kept = min(length, capacity) if options["over"] == "truncate" else length
        pieces = sorted(seen[row])
        assert [start for start, _ in pieces] == list(range(0, max(kept, 1), capacity))
        assert sum(size for _, size in pieces) == kept
    long = [length for length in lengths if length > capacity]
    assert packer.rows == len(lengths)
    assert packer.dropped == (len(long) if options["over"] == "drop" else 0)
    lost = {"drop": sum(long), "truncate": sum(long) - capacity * len(long), "split": 0}
    assert packer.lost == lost[options["over"]]


@given(LENGTHS, OPTIONS)
def test_the_state_goes_on_at_every_point(lengths, options):
    whole = Packer(**options)
    expected = run(whole, lengths) + whole.flush()
    first, bins = Packer(**options), []
    for at in range(len(lengths) + 1):
        state = json.loads(json.dumps(first.state_dict()))
        second = Packer(**options)
        second.load_state_dict(state)
        assert second.state_dict() == first.state_dict()
        assert bins + run(second, lengths[at:]) + second.flush() == expected
        assert (second.rows, second.dropped, second.lost) == (whole.rows, whole.dropped, whole.lost)
        bins += run(first, lengths[at : at + 1])


def test_a_row_goes_where_it_leaves_the_least_room():
    packer = Packer(10, over="error")
    assert run(packer, [5, 7, 6]) == []
    assert packer.add(3, "three") == [[Piece(1, 0, 7), Piece("three", 0, 3)]]
    assert packer.add(4) == [[Piece(2, 0, 6), Piece(4, 0, 4)]]
    assert packer.flush() == [[Piece(0, 0, 5)]]


def test_the_fullest_bin_makes_place():
    packer = Packer(10, over="error", open_bins=2)
    assert run(packer, [6, 7]) == []
    assert packer.add(8) == [[Piece(1, 0, 7)]]
    assert [piece.item for bin in packer.flush() for piece in bin] == [0, 2]


def test_a_row_that_fills_a_bin_needs_no_place():
    packer = Packer(10, over="split", open_bins=1)
    assert packer.add(6) == []
    assert packer.add(10) == [[Piece(1, 0, 10)]]
    assert packer.add(24) == [[Piece(2, 0, 10)], [Piece(2, 10, 10)], [Piece(0, 0, 6), Piece(2, 20, 4)]]


def test_a_state_is_a_copy():
    packer = Packer(10, over="error")
    packer.add(3)
    state = packer.state_dict()
    packer.add(3)
    assert len(state["open"][0][2]) == 1
    assert "1 of 64 bins open, 2 rows" in repr(packer)


def test_a_refused_row_changes_nothing():
    packer = Packer(10, over="error")
    packer.add(3)
    before = packer.state_dict()
    with pytest.raises(scree.ArgumentError, match="length=11 is over capacity=10; choose over='truncate'"):
        packer.add(11)
    with pytest.raises(scree.ArgumentError, match="length=-1"):
        packer.add(-1)
    with pytest.raises(scree.ArgumentTypeError, match="length"):
        packer.add(2.5)
    assert packer.state_dict() == before


def test_a_state_of_other_options_is_refused():
    state = Packer(10, over="error").state_dict()
    with pytest.raises(scree.ArgumentError, match=r"'capacity': 10.*this one has capacity=12, over='split'; make"):
        Packer(12, over="split").load_state_dict(state)
    with pytest.raises(scree.ArgumentError, match=r"no \['begun'"):
        Packer(12, over="split").load_state_dict({"options": {}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": 0, "over": "error"}, "capacity=0"),
        ({"capacity": 8, "over": "no"}, "over='no'"),
        ({"capacity": 8, "over": "error", "open_bins": 0}, "open_bins=0"),
        ({"capacity": 8, "over": "error", "multiple_of": 3}, "use 6 or 9"),
    ],
)
def test_what_can_not_be_is_refused_by_name(options, message):
    with pytest.raises(scree.ArgumentError, match=message):
        Packer(**options)
