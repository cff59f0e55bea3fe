"""concat: batches end to end, and those that don't fit."""

import numpy as np
import pytest

import scree_core as scree
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend


@pytest.fixture
def arr():
    return scree.from_lengths(np.arange(3), [1, 2])


def test_batches_join_in_order(arr):
    joined = scree.concat([arr, arr[:0], arr[1:], arr[[0, 0]]])
    assert [row.tolist() for row in joined] == [[0], [1, 2], [1, 2], [0], [0]]
    assert (joined.max_length, joined.min_length) == (2, 1)
    assert joined.validate() is joined


def test_any_iterable_of_batches_joins(arr):
    assert len(scree.concat(a for a in (arr, arr))) == 4


def test_one_batch_is_copied(arr):
    assert not np.shares_memory(scree.concat([arr]).values, arr.values)


def test_batches_of_no_rows_join():
    none = scree.from_lengths(np.zeros((0, 3)), [])
    assert scree.concat([none, none]).values.shape == (0, 3)


def test_batches_join_along_another_ragged_axis():
    a = scree.from_lengths(np.arange(6).reshape(2, 3), [1, 2], ragged_dim=1)
    joined = scree.concat([a, a])
    assert joined.ragged_dim == 1
    assert joined.values.tolist() == [[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5]]


def test_int32_and_int64_offsets_join():
    small = scree.Array(np.zeros(2), np.array([0, 2], np.int32))
    large = scree.Array(np.ones(1), np.array([0, 1], np.int64))
    assert scree.concat([small, large]).offsets.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (np.zeros(3), scree.ArgumentTypeError, r"arrays\[1\] must be a scree.Array, got ndarray"),
        (None, scree.ArgumentTypeError, r"arrays\[1\] must be a scree.Array, got NoneType"),
        (
            scree.from_lengths(np.zeros(3), [3]),
            scree.ShapeError,
            r"arrays\[1\] has dtype float64, arrays\[0\] has int64",
        ),
        (scree.from_lengths(np.zeros((3, 2), int), [3]), scree.ShapeError, r"arrays\[1\] is 2-D, arrays\[0\] is 1-D"),
    ],
)
def test_a_batch_that_does_not_fit_is_named_by_its_index(arr, other, error, message):
    with pytest.raises(error, match=message):
        scree.concat([arr, other])


def test_features_and_ragged_axes_must_agree():
    first = scree.from_lengths(np.zeros((3, 2)), [3])
    with pytest.raises(scree.ShapeError, match=r"arrays\[2\] has shape \(3, 4\), arrays\[0\] has \(3, 2\)"):
        scree.concat([first, first, scree.from_lengths(np.zeros((3, 4)), [3])])
    with pytest.raises(scree.ShapeError, match=r"arrays\[1\] has ragged_dim=1, arrays\[0\] has 0"):
        scree.concat([first, scree.from_lengths(np.zeros((3, 2)), [2], ragged_dim=1)])


def test_batches_of_two_libraries_do_not_join(arr):
    with scree.registry.installed_for(LoopbackArray, LoopbackBackend()):
        other = scree.from_lengths(LoopbackArray(np.arange(3)), [3])
        with pytest.raises(scree.ShapeError, match=r"arrays\[0\] and arrays\[1\] belong to different libraries"):
            scree.concat([arr, other])


def test_joining_nothing_is_refused():
    with pytest.raises(scree.ShapeError, match="can't concat an empty list"):
        scree.concat([])


def test_joining_one_batch_without_a_list_is_refused(arr):
    with pytest.raises(scree.ArgumentTypeError, match=r"arrays\[0\] must be a scree.Array, got ndarray"):
        scree.concat(arr)
