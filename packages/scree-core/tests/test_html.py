"""What a notebook shows: well-formed, safe, and right about the cost of padding."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import scree_core as scree
from scree_core.array import html


def drawn(arr):
    return ElementTree.fromstring(arr._repr_html_())


def texts(arr):
    return [text for text in drawn(arr).itertext() if not text.startswith("row ")]


def bars(arr):
    return [float(rect.get("width")) for rect in drawn(arr).iter("rect") if rect.get("fill") == html.INK]


def test_the_repr_and_the_cost_of_padding_are_told():
    arr = scree.from_lengths(np.zeros((6, 2), np.float32), [1, 2, 3])
    assert texts(arr) == [
        repr(arr),
        "rows of 1 to 3 elements; padding would take 9 slots (72 B) for 6 elements (48 B): 33% of it empty",
    ]


def test_costs_are_given_in_readable_units():
    arr = scree.from_lengths(np.zeros((1001, 256), np.float32), [1000, 1])
    assert texts(arr)[-1] == (
        "rows of 1 to 1000 elements; padding would take 2,000 slots (2.0 MiB) for 1,001 elements (1001.0 KiB): "
        "50% of it empty"
    )


def test_costs_past_int32_are_right():
    arr = scree.from_lengths(np.broadcast_to(np.int8(0), (2**31 + 5,)), [2**31, 5])
    cost = html.padding_cost(arr, np.diff(arr.offsets))
    assert "4,294,967,296 slots (4.0 GiB) for 2,147,483,653 elements (2.0 GiB): 50% of it empty" in cost


def test_bars_are_as_long_as_their_rows():
    arr = scree.from_lengths(np.zeros(7), [4, 0, 1, 2])
    assert bars(arr) == [html.WIDTH, 0.0, html.WIDTH / 4, html.WIDTH / 2]
    assert [title.text for title in drawn(arr).iter("title")] == ["row 0: 4", "row 1: 0", "row 2: 1", "row 3: 2"]


def test_bars_are_drawn_to_the_scale_of_the_longest_row_even_if_it_is_not_shown():
    arr = scree.from_lengths(np.zeros(64 + 128), [1] * 64 + [128])
    assert set(bars(arr)) == {round(html.WIDTH / 128, 1)}


def test_no_more_than_64_rows_are_drawn():
    arr = scree.from_lengths(np.zeros(2000), [1] * 2000)
    assert len(bars(arr)) == html.MAX_BARS == 64
    assert "… and 1,936 more rows" in texts(arr)


def test_exactly_64_rows_leave_none_unsaid():
    arr = scree.from_lengths(np.zeros(64), [1] * 64)
    assert len(bars(arr)) == 64
    assert not any("more" in text for text in texts(arr))


@pytest.mark.parametrize(
    ("lengths", "cost"),
    [([], "no rows"), ([0, 0], "rows of 0 to 0 elements: nothing to pad")],
)
def test_a_batch_without_elements_has_no_bars(lengths, cost):
    arr = scree.from_lengths(np.zeros((0, 4)), lengths)
    assert texts(arr) == [repr(arr), cost]
    assert bars(arr) == []


def test_rows_of_equal_length_waste_nothing():
    arr = scree.from_lengths(np.zeros(6), [3, 3])
    assert texts(arr)[-1].endswith(": 0% of it empty")


def test_elements_without_bytes_cost_nothing():
    arr = scree.from_lengths(np.zeros((3, 0)), [1, 2])
    assert "4 slots (0 B) for 3 elements (0 B)" in texts(arr)[-1]


def test_a_ragged_axis_that_is_not_the_first_costs_the_same():
    first, last = np.zeros((6, 2)), np.zeros((2, 6))
    assert texts(scree.from_lengths(first, [1, 5]))[1] == texts(scree.from_lengths(last, [1, 5], -1))[1]


def test_what_a_dtype_is_called_is_escaped():
    arr = scree.from_lengths(np.array(["<b>", "&"]), [1, 1])
    assert "dtype=<U3" in texts(arr)[0]
