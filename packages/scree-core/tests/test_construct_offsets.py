"""from_cu_seqlens, from_lengths and from_segment_ids: nothing is copied, and wrong boundaries are named."""

import numpy as np
import pytest

import scree_core as scree
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend

VALUES = np.arange(10.0).reshape(5, 2)


# ------------------------------------------------------------------ cu_seqlens


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_cu_seqlens_and_values_are_kept_as_they_are(dtype):
    cu_seqlens = np.array([0, 2, 5], dtype)
    arr = scree.from_cu_seqlens(VALUES, cu_seqlens)
    assert arr.values is VALUES
    assert arr.offsets is cu_seqlens


def test_cu_seqlens_come_with_hints():
    arr = scree.from_cu_seqlens(VALUES, np.array([0, 2, 5]), max_length=4, min_length=1)
    assert (arr.max_length, arr.min_length) == (4, 1)
    with pytest.raises(ValueError, match="max_length=2 is too small"):
        scree.from_cu_seqlens(VALUES, np.array([0, 2, 5]), max_length=2)


def test_cu_seqlens_without_the_last_one_are_refused():
    with pytest.raises(ValueError, match=r"offsets\[-1\] \(2\) must equal values.shape\[ragged_dim=0\] \(5\)"):
        scree.from_cu_seqlens(VALUES, np.array([0, 2]))


def test_lengths_given_for_cu_seqlens_are_refused():
    with pytest.raises(ValueError, match=r"offsets\[0\] must be 0, got 2"):
        scree.from_cu_seqlens(VALUES, np.array([2, 3]))


def test_cu_seqlens_of_int32_past_int32_are_refused():
    values = np.broadcast_to(np.int8(0), (2**31 + 5,))
    with pytest.raises(ValueError, match=r"offsets\[-1\] \(2147483647\) must equal .* \(2147483653\)"):
        scree.from_cu_seqlens(values, np.array([0, 2**31 - 1], np.int32))


# ------------------------------------------------------------------ lengths


@pytest.mark.parametrize(
    "lengths",
    [[2, 0, 3], (2, 0, 3), np.array([2, 0, 3], np.uint8), np.array([2, 0, 3]), [np.int64(2), 0, 3]],
)
def test_lengths_may_be_any_sequence_of_integers(lengths):
    arr = scree.from_lengths(VALUES, lengths)
    assert arr.values is VALUES
    assert arr.offsets.tolist() == [0, 2, 2, 5]
    assert arr.offsets.dtype == np.int32
    assert (arr.max_length, arr.min_length) == (3, 0)


def test_lengths_may_be_a_range():
    assert scree.from_lengths(np.zeros(3), range(3)).lengths.tolist() == [0, 1, 2]


def test_lengths_may_belong_to_another_library():
    with scree.registry.installed_for(LoopbackArray, LoopbackBackend()):
        arr = scree.from_lengths(VALUES, LoopbackArray(np.array([2, 3])))
    assert arr.offsets.tolist() == [0, 2, 5]
    assert type(arr.offsets) is np.ndarray


@pytest.mark.parametrize("lengths", [[], np.zeros(0), np.zeros(0, np.int32)])
def test_no_lengths_are_a_batch_of_no_rows(lengths):
    assert len(scree.from_lengths(VALUES[:0], lengths)) == 0


@pytest.mark.parametrize("ragged_dim", [1, -1])
def test_lengths_cut_along_the_ragged_axis(ragged_dim):
    arr = scree.from_lengths(VALUES.T, [2, 3], ragged_dim)
    assert np.shares_memory(arr.values, VALUES)
    assert [row.shape for row in arr] == [(2, 2), (2, 3)]


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([2, 2], scree.ShapeError, r"lengths add up to 4, but values.shape\[ragged_dim=0\] is 5"),
        ([], scree.ShapeError, "lengths add up to 0, but"),
        ([7, -2], scree.ShapeError, r"lengths must not be negative, but lengths\[1\] is -2"),
        ([[2, 3]], scree.ShapeError, r"lengths must be 1-D, got shape \(1, 2\)"),
        (np.array(5), scree.ShapeError, r"lengths must be 1-D, got shape \(\)"),
        ([2.0, 3.0], scree.ShapeError, "lengths must be integers, got float64"),
        ([True] * 5, scree.ShapeError, "lengths must be integers, got bool"),
        (["2", "3"], scree.ShapeError, "lengths must be integers, got <U1"),
        (5, scree.ArgumentTypeError, "lengths must be a list or array of integers, got int"),
        (None, scree.ArgumentTypeError, "lengths must be a list or array of integers, got NoneType"),
        (iter([5]), scree.ArgumentTypeError, "lengths must be a list or array of integers, got list_iterator"),
    ],
)
def test_wrong_lengths_are_named(lengths, error, message):
    with pytest.raises(error, match=message):
        scree.from_lengths(VALUES, lengths)


@pytest.mark.parametrize("make", [scree.from_lengths, scree.from_segment_ids])
def test_values_of_wrong_shape_are_refused(make):
    with pytest.raises(scree.ArgumentTypeError, match="values must be an array, got list"):
        make([1.0, 2.0], [0, 1])
    with pytest.raises(ValueError, match=r"^values must be at least 1-D$"):
        make(np.array(1.0), [1])
    with pytest.raises(ValueError, match=r"^ragged_dim=5 out of range for 2-D values$"):
        make(VALUES, [0, 1], ragged_dim=5)


@pytest.mark.parametrize("ragged_dim", [0.0, None, "0"])
def test_a_ragged_axis_that_is_no_integer_is_a_type_error(ragged_dim):
    with pytest.raises(TypeError):
        scree.from_lengths(VALUES, [2, 3], ragged_dim)


# ------------------------------------------------------------------ segment ids


@pytest.mark.parametrize("ids", [[0, 0, 2, 2, 2], np.array([0, 0, 2, 2, 2], np.int8)])
def test_segment_ids_leave_rows_out(ids):
    arr = scree.from_segment_ids(VALUES, ids)
    assert arr.values is VALUES
    assert arr.offsets.tolist() == [0, 2, 2, 5]
    assert (arr.max_length, arr.min_length) == (3, 0)


def test_segment_ids_round_trip():
    arr = scree.from_lengths(VALUES, [0, 2, 0, 3, 0])
    again = scree.from_segment_ids(VALUES, arr.segment_ids, batch_size=5)
    assert again.offsets.tolist() == arr.offsets.tolist()


def test_a_batch_size_adds_empty_rows_at_the_end():
    assert scree.from_segment_ids(VALUES, [0] * 5, 3).lengths.tolist() == [5, 0, 0]
    assert scree.from_segment_ids(VALUES[:0], [], 2).lengths.tolist() == [0, 0]
    assert scree.from_segment_ids(VALUES[:0], [], 0).batch_size == 0
    assert scree.from_segment_ids(VALUES[:0], []).batch_size == 0


def test_segment_ids_cut_along_the_ragged_axis():
    arr = scree.from_segment_ids(VALUES.T, [0, 0, 1, 1, 1], ragged_dim=-1)
    assert [row.shape for row in arr] == [(2, 2), (2, 3)]


@pytest.mark.parametrize(
    ("ids", "batch_size", "message"),
    [
        ([0, 1, 0, 1, 1], None, r"segment_ids\[2\] < segment_ids\[1\] \(0 < 1\); sort both first: order = np.argsort"),
        ([-1, 0, 0, 0, 0], None, "segment_ids must not be negative, got -1"),
        ([0, 0, 0, 0, 3], 3, r"segment_ids\[-1\] is 3, out of range for batch_size=3"),
        ([0, 0, 0, 1], None, r"segment_ids has the length 4, but values.shape\[ragged_dim=0\] is 5"),
        ([0.0] * 5, None, "segment_ids must be integers, got float64"),
        ([[0]], None, "segment_ids must be 1-D"),
    ],
)
def test_wrong_segment_ids_are_named(ids, batch_size, message):
    with pytest.raises(ValueError, match=message):
        scree.from_segment_ids(VALUES, ids, batch_size)


def test_a_negative_batch_size_is_named():
    with pytest.raises(ValueError, match=r"batch_size.*-1"):
        scree.from_segment_ids(VALUES[:0], [], -1)


def test_the_sorting_that_the_message_asks_for_works():
    ids = np.array([1, 0, 1, 0, 0])
    order = np.argsort(ids, kind="stable")
    arr = scree.from_segment_ids(VALUES[order], ids[order])
    assert [row[:, 0].tolist() for row in arr] == [[2.0, 6.0, 8.0], [0.0, 4.0]]
