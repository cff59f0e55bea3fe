"""Awkward Arrays, with the real package."""

import numpy as np
import pytest

from scree_core import Array, ShapeError, from_lengths
from scree_core.bridges import from_awkward, to_awkward
from scree_core.errors import ArgumentError, ArgumentTypeError

from .rows import RowsComeBack, check_equal, make

ak = pytest.importorskip("awkward", reason="the bridge to Awkward needs it")


def layout_of_lists(content, *offsets, index=np.int64):
    kinds = {np.int32: ak.index.Index32, np.uint32: ak.index.IndexU32, np.int64: ak.index.Index64}
    return ak.contents.ListOffsetArray(kinds[index](np.array(offsets, index)), content)


def numbers(values):
    return ak.contents.NumpyArray(np.asarray(values))


# ------------------------------------------------------------------ there and back


class TestRows(RowsComeBack):
    back = staticmethod(from_awkward)

    def there(self, arr):
        rows = to_awkward(arr)
        assert ak.is_valid(rows)
        return rows


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64", "complex64"])
def test_dtypes_come_back(dtype):
    check_equal(from_awkward(to_awkward(make((2,), dtype))), make((2,), dtype))


def test_awkward_sees_the_rows_and_the_type():
    assert to_awkward(make()).tolist() == [[0, 1], [], [2, 3, 4]]
    assert str(to_awkward(make((3, 2))).type) == "3 * var * 3 * 2 * float32"
    assert to_awkward(make()).layout.offsets.data.dtype == np.int32


# ------------------------------------------------------------------ what is shared


@pytest.mark.parametrize("features", [(), (2,), (3, 2)], ids=str)
@pytest.mark.parametrize("offset_dtype", [np.int32, np.int64])
def test_both_ways_share_values_and_offsets(features, offset_dtype):
    arr = make(features, offset_dtype=offset_dtype)
    rows = to_awkward(arr)
    back = from_awkward(rows)
    assert rows.layout.offsets.data.ctypes.data == arr.offsets.ctypes.data == back.offsets.ctypes.data
    assert back.values.ctypes.data == arr.values.ctypes.data
    content = rows.layout.content
    while not content.is_numpy:
        content = content.content
    assert content.data.ctypes.data == arr.values.ctypes.data


def test_a_tail_is_left_out():
    arr = Array(np.arange(7.0), np.array([0, 1, 4], np.int32), tail=True)
    rows = to_awkward(arr)
    assert rows.tolist() == [[0], [1, 2, 3]]
    assert rows.layout.content.length == 4


@pytest.mark.parametrize("tail", [False, True])
def test_rows_of_torch_go_through_numpy(tail):
    torch = pytest.importorskip("torch")
    pytest.importorskip("scree_torch")
    values = torch.arange(8.0).reshape(4, 2).requires_grad_()
    arr = Array(values, torch.tensor([0, 1, 3 if tail else 4], dtype=torch.int32), tail=tail)
    rows = to_awkward(arr)
    assert rows.tolist() == [row.tolist() for row in arr]
    assert from_awkward(rows).values.ctypes.data == values.data_ptr()


# ------------------------------------------------------------------ what lies otherwise


@pytest.mark.parametrize("features", [(), (2,), (3, 2), (0,)], ids=str)
def test_slices_are_the_rows_they_show_and_share_the_values(features):
    arr, rows = make(features), to_awkward(make(features))
    for start in range(4):
        for stop in range(start, 4):
            part, expected = from_awkward(rows[start:stop]), arr[start:stop]
            assert np.array_equal(part.lengths, expected.lengths)
            assert np.array_equal(part.values, expected.values)
    whole = from_awkward(rows)
    assert np.shares_memory(from_awkward(rows[2:]).values, whole.values) or whole.values.size == 0


@pytest.mark.parametrize("features", [(), (2,)], ids=str)
@pytest.mark.parametrize("picked", [[2, 0], [0, 0, 2], [True, False, True], []])
def test_rows_that_were_picked_are_packed(features, picked):
    rows = to_awkward(make(features))
    index = np.array(picked, bool if True in picked else int)
    got, expected = from_awkward(rows[index]), make(features)[index]
    assert np.array_equal(got.lengths, expected.lengths)
    assert np.array_equal(got.values, expected.values)


def test_rows_cut_short_are_packed():
    rows = ak.Array([[0, 1, 2], [3], [4, 5, 6]])
    assert [row.tolist() for row in from_awkward(rows[:, 1:])] == [[1, 2], [], [5, 6]]


def test_elements_that_were_picked_are_packed():
    content = ak.contents.IndexedArray(ak.index.Index64(np.array([2, 0, 1])), numbers([5, 6, 7]))
    assert [row.tolist() for row in from_awkward(layout_of_lists(content, 0, 1, 3))] == [[7], [5, 6]]


def test_content_of_several_axes_is_taken_as_it_is():
    values = np.arange(12.0).reshape(3, 2, 2)
    arr = from_awkward(layout_of_lists(numbers(values), 0, 1, 3))
    assert np.shares_memory(arr.values, values)
    assert arr.values.shape == (3, 2, 2)


def test_regular_content_may_be_longer_than_its_rows():
    content = ak.contents.RegularArray(ak.contents.RegularArray(numbers(np.arange(14)), 2), 3)
    arr = from_awkward(layout_of_lists(content, 1, 2))
    assert arr.values.tolist() == [[[6, 7], [8, 9], [10, 11]]]
    optional = layout_of_lists(ak.contents.UnmaskedArray(ak.contents.RegularArray(numbers(np.arange(5)), 2)), 0, 2)
    assert from_awkward(optional).values.tolist() == [[0, 1], [2, 3]]


def test_offsets_of_uint32_become_int64():
    arr = from_awkward(layout_of_lists(numbers([1, 2, 3]), 1, 2, 3, index=np.uint32))
    assert arr.offsets.dtype == np.int64
    assert [row.tolist() for row in arr] == [[2], [3]]


# ------------------------------------------------------------------ None


def test_a_row_that_is_none_is_refused_by_its_number():
    rows = ak.Array([[0], [1], None, [2], None])
    with pytest.raises(ShapeError, match=r"row 2 is None.*awkward\.drop_none"):
        from_awkward(rows)
    with pytest.raises(ShapeError, match="row 1 is None"):
        from_awkward(rows[1:])
    assert from_awkward(ak.drop_none(rows)).values.tolist() == [0, 1, 2]


def test_an_element_that_is_none_is_refused_by_its_number():
    rows = ak.Array([[0], [], [1, 2], [3, None]])
    with pytest.raises(ShapeError, match="element 4 is None"):
        from_awkward(rows)
    with pytest.raises(ShapeError, match="element 3 is None"):
        from_awkward(rows[1:])


@pytest.mark.parametrize("bad", [None, [5, None]])
def test_none_within_features_is_refused_by_its_element(bad):
    rows = ak.to_regular(ak.Array([[[0, 1], [2, 3]], [[4, 4], bad]]), axis=2)
    with pytest.raises(ShapeError, match="element 3 is None or holds one"):
        from_awkward(rows)


@pytest.mark.parametrize("wrap", ["byte", "bit", "index", "unmasked"])
@pytest.mark.parametrize("level", ["row", "element"])
def test_types_that_allow_none_are_fine_where_none_is(wrap, level):
    def optional(content):
        n = content.length
        return {
            "byte": lambda: ak.contents.ByteMaskedArray(ak.index.Index8(np.ones(n, np.int8)), content, True),
            "bit": lambda: ak.contents.BitMaskedArray(
                ak.index.IndexU8(np.full(1, 255, np.uint8)), content, True, n, True
            ),
            "index": lambda: ak.contents.IndexedOptionArray(ak.index.Index64(np.arange(n)), content),
            "unmasked": lambda: ak.contents.UnmaskedArray(content),
        }[wrap]()

    if level == "row":
        layout = optional(layout_of_lists(numbers([1, 2, 3]), 0, 1, 3))
    else:
        layout = layout_of_lists(optional(numbers([1, 2, 3])), 0, 1, 3)
    arr = from_awkward(ak.Array(layout))
    assert [row.tolist() for row in arr] == [[1], [2, 3]]


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[[1]], [[2, 3]]], r"type var \* int64; an Array has one ragged axis.*awkward\.to_regular"),
        ([["ab"]], "type string; an Array holds numbers of one type"),
        ([[b"ab"]], "type bytes; an Array holds numbers of one type"),
        ([[{"x": 1}]], r"type \{x: int64\}; take one field"),
        ([[1, "a"]], "type union"),
        ([[], []], r"type unknown; give them a type, such as awkward\.enforce_type"),
    ],
)
def test_elements_that_no_array_can_hold_are_refused_by_their_type(rows, message):
    with pytest.raises(ShapeError, match=message):
        from_awkward(ak.Array(rows))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1, 2], "got Awkward type int64; an Array holds lists of numbers"),
        (["ab"], "got Awkward type string; an Array holds lists of numbers"),
        ([{"x": [1]}], r"got Awkward type .*; take one field"),
        ([[1], 2], "got Awkward type union"),
        ([], r"got Awkward type unknown; give it a type"),
        (np.zeros((2, 3)), r"awkward\.from_regular\(rows, axis=1\)"),
    ],
)
def test_what_has_no_rows_is_refused_by_its_type(rows, message):
    with pytest.raises(ArgumentTypeError, match=message):
        from_awkward(ak.Array(rows))


def test_regular_rows_are_refused_and_the_message_mends_it():
    rows = ak.to_regular(ak.Array([[1, 2], [3, 4]]))
    with pytest.raises(ArgumentTypeError, match=r"awkward\.from_regular\(rows, axis=1\)"):
        from_awkward(rows)
    assert from_awkward(ak.from_regular(rows, axis=1)).lengths.tolist() == [2, 2]


def test_the_messages_for_unknown_types_and_inner_lists_mend_them():
    assert from_awkward(ak.enforce_type(ak.Array([[], []]), "var * float64")).dtype == np.float64
    assert from_awkward(ak.to_regular(ak.Array([[[1, 2]], []]), axis=2)).values.tolist() == [[1, 2]]


def test_strings_of_one_size_are_refused():
    words = ak.to_regular(ak.Array([["ab", "cd"]]), axis=2)
    with pytest.raises(ShapeError, match=r"type string\[2\]; an Array holds numbers of one type"):
        from_awkward(words)


def test_categories_are_refused():
    words = ak.contents.IndexedArray(
        ak.index.Index64(np.array([0, 0])), numbers([1]), parameters={"__array__": "categorical"}
    )
    with pytest.raises(ShapeError, match="rows hold elements of Awkward type categorical"):
        from_awkward(layout_of_lists(words, 0, 2))


@pytest.mark.parametrize("wrong", [[[1], [2]], np.zeros(3), None])
def test_what_is_no_awkward_array_is_refused(wrong):
    with pytest.raises(ArgumentTypeError, match=r"rows must be an awkward\.Array"):
        from_awkward(wrong)


def test_what_holds_no_numbers_yet_is_refused():
    with pytest.raises(ArgumentError, match=r"backend 'typetracer'; use awkward\.to_backend"):
        from_awkward(ak.to_backend(to_awkward(make()), "typetracer"))


@pytest.mark.parametrize(("offsets", "message"), [((0, 2, 1), "non-decreasing"), ((0, 9), "from 0 to 9.*3 elements")])
def test_offsets_that_are_wrong_are_found(offsets, message):
    with pytest.raises(ShapeError, match=message):
        from_awkward(layout_of_lists(numbers([1, 2, 3]), *offsets))


def test_bfloat16_is_refused_and_the_message_mends_it():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    arr = from_lengths(np.ones(3, ml_dtypes.bfloat16), [3])
    with pytest.raises(ShapeError, match=r"dtype bfloat16; cast first, say arr\.astype\('float32'\)"):
        to_awkward(arr)
    assert to_awkward(arr.astype("float32")).tolist() == [[1, 1, 1]]
