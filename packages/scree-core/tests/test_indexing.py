"""Rows: one as a view, several as an Array, and every index that is neither."""

import numpy as np
import pytest

import scree_core as scree

LENGTHS = [2, 0, 3, 1]


@pytest.fixture
def arr():
    return scree.from_lengths(np.arange(12.0).reshape(6, 2), LENGTHS)


@pytest.fixture
def moved():
    """Return the same rows along the last axis."""
    return scree.from_lengths(np.arange(12.0).reshape(6, 2).T, LENGTHS, ragged_dim=-1)


def contents(arr):
    return [row[:, 0].tolist() for row in arr]


ROWS = [[0.0, 2.0], [], [4.0, 6.0, 8.0], [10.0]]


# ------------------------------------------------------------------ one row


@pytest.mark.parametrize("i", [0, 1, 2, 3, -1, -4, np.int64(2), np.uint8(3), np.int8(-2)])
def test_an_integer_gives_that_row(arr, i):
    assert arr[i][:, 0].tolist() == ROWS[i]


def test_an_integer_array_of_no_axes_is_an_integer(arr):
    assert arr[np.array(2)].shape == (3, 2)


def test_a_row_shares_memory_with_the_values(arr, moved):
    arr[2][0, 0] = -1
    assert arr.values[2, 0] == -1
    assert np.shares_memory(moved[2], moved.values)
    assert moved[2].shape == (2, 3)


@pytest.mark.parametrize("i", [4, -5, 100, np.int64(4)])
def test_a_row_out_of_range_is_an_index_error(arr, i):
    with pytest.raises(IndexError, match=f"row {i} is out of range for a batch of 4"):
        arr[i]


def test_a_batch_of_no_rows_has_no_row():
    none = scree.from_lengths(np.zeros((0, 2)), [])
    with pytest.raises(IndexError, match="row 0 is out of range for a batch of 0"):
        none[0]
    assert len(none[:]) == len(none[[]]) == len(none[np.zeros(0, bool)]) == 0


def test_iterating_gives_every_row_as_a_view(arr, moved):
    assert contents(arr) == ROWS
    assert all(np.shares_memory(row, arr.values) for row in arr if row.size)
    assert [row.shape for row in moved] == [(2, 2), (2, 0), (2, 3), (2, 1)]
    assert [row[0, 0] for row in reversed(arr) if row.size] == [10.0, 4.0, 0.0]


# ------------------------------------------------------------------ slices


@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(1, 3),
        slice(2, None),
        slice(-2, None),
        slice(None, -1),
        slice(0, 0),
        slice(4, 9),
        slice(3, 1),
        slice(-100, 100),
        slice(None, None, 2),
        slice(1, None, 2),
        slice(None, None, -1),
        slice(2, None, -1),
        slice(3, 0, -2),
        slice(0, 3, -1),
        slice(np.int64(1), np.int64(3)),
    ],
)
def test_a_slice_gives_what_it_gives_of_a_list(arr, moved, index):
    got = arr[index]
    assert contents(got) == ROWS[index]
    assert got.validate() is got
    assert got.max_length == max(map(len, ROWS[index]), default=0)
    assert [row[0].tolist() for row in moved[index]] == ROWS[index]


def test_a_slice_of_neighbours_is_a_view(arr, moved):
    for whole in (arr, moved):
        part = whole[2:]
        assert np.shares_memory(part.values, whole.values)
        assert part.ragged_dim == whole.ragged_dim
    part = arr[2:]
    part.values[0, 0] = -1
    assert arr.values[2, 0] == -1


def test_a_slice_leaves_the_offsets_of_the_whole_alone(arr):
    before = arr.offsets.tolist()
    assert arr[1:].offsets.tolist() == [0, 0, 3, 4]
    assert arr.offsets.tolist() == before


def test_a_whole_slice_lies_as_the_array_does(arr):
    assert (arr[:] + arr).values.tolist() == (2 * arr.values).tolist()


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("index", [slice(1, 3), slice(None, None, -1), [2, 0], [True, False, True, True]])
def test_a_selection_keeps_the_offsets_dtype(dtype, index):
    arr = scree.Array(np.arange(6.0), np.array([0, 2, 2, 5, 6], dtype))
    assert arr[index].offsets.dtype == dtype


# ------------------------------------------------------------------ lists, arrays, masks


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        ([2, 0, 2], [2, 0, 2]),
        ([-1, 1], [3, 1]),
        ([], []),
        ([np.int64(3), 0], [3, 0]),
        (range(2), [0, 1]),
        (np.array([3, 2], np.uint8), [3, 2]),
        (np.array([3, -4], np.int8), [3, 0]),
        (np.array([3], np.uint64), [3]),
        ([True, False, True, False], [0, 2]),
        (np.array([False, False, False, True]), [3]),
        (np.zeros(4, bool), []),
    ],
)
def test_lists_arrays_and_masks_gather_rows(arr, moved, index, rows):
    assert contents(arr[index]) == [ROWS[i] for i in rows]
    assert [row[0].tolist() for row in moved[index]] == [ROWS[i] for i in rows]
    assert arr[index].validate().max_length == max((LENGTHS[i] for i in rows), default=0)


def test_gathered_rows_are_a_copy(arr):
    assert not np.shares_memory(arr[[0, 1, 2, 3]].values, arr.values)


def test_a_mask_over_an_arrays_lengths_selects_rows(arr):
    assert contents(arr[arr.lengths > 1]) == [ROWS[0], ROWS[2]]


@pytest.mark.parametrize("wrong", [4, -5])
def test_a_list_with_a_row_out_of_range_names_it(arr, wrong):
    with pytest.raises(IndexError, match=f"row {wrong} is out of range for a batch of 4"):
        arr[[0, wrong, 9]]


@pytest.mark.parametrize("mask", [[True, False], [True] * 5, np.ones(6, bool)])
def test_a_mask_of_another_length_is_refused(arr, mask):
    with pytest.raises(IndexError, match=f"a mask over rows needs 4 elements, got {len(mask)}"):
        arr[mask]


@pytest.mark.parametrize("index", [np.zeros((2, 2), int), [[0], [1]], np.ones((4, 1), bool)])
def test_an_index_of_two_axes_is_refused(arr, index):
    with pytest.raises(IndexError, match="1-D list or array, got 2-D"):
        arr[index]


@pytest.mark.parametrize("index", [[0.0, 1.0], ["a"], [None], [1.5]])
def test_an_index_of_anything_but_integers_is_refused(arr, index):
    with pytest.raises(IndexError, match="integers or a boolean mask"):
        arr[index]


def test_a_nested_list_of_uneven_lists_is_an_index_error(arr):
    with pytest.raises(IndexError):
        arr[[1, [2]]]


@pytest.mark.parametrize("index", [(0, 1), (slice(None), 0), (), None, ...])
def test_an_index_of_features_says_where_to_index_them(arr, index):
    with pytest.raises(IndexError, match=r"indexed by rows alone, .* use arr.with_values\(arr.values"):
        arr[index]


@pytest.mark.parametrize("index", [True, False, np.True_])
def test_a_single_bool_is_no_row_number(arr, index):
    with pytest.raises(IndexError, match=rf"got .*{bool(index)}"):
        arr[index]


@pytest.mark.parametrize("index", [1.0, "row", {0, 1}, object()])
def test_an_index_of_no_known_kind_is_shown(arr, index):
    with pytest.raises(IndexError, match=r"got .*(1\.0|row|\{0, 1\}|object|float|str|set)"):
        arr[index]


def test_slices_of_anything_but_integers_fail_as_those_of_lists_do(arr):
    with pytest.raises(TypeError, match="slice indices must be integers"):
        arr[0:2.5]
    with pytest.raises(ValueError, match="slice step cannot be zero"):
        arr[::0]


def test_rows_cannot_be_assigned(arr):
    with pytest.raises(TypeError, match="does not support item assignment"):
        arr[0] = 0
