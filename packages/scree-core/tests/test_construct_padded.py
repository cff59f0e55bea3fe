"""to_padded and from_padded: sides, fills, widths, masks of any shape, and what they refuse."""

import sys

import numpy as np
import pytest

import scree_core as scree
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend


@pytest.fixture
def arr():
    return scree.from_lengths(np.array([1, 2, 3]), [1, 0, 2])


# ------------------------------------------------------------------ to_padded


def test_padding_goes_behind_the_elements_by_default(arr):
    padded, mask = scree.to_padded(arr)
    assert padded.tolist() == [[1, 0], [0, 0], [2, 3]]
    assert mask.tolist() == [[True, False], [False, False], [True, True]]
    assert (padded.dtype, mask.dtype) == (arr.dtype, np.bool_)


def test_padding_goes_before_the_elements_on_the_left(arr):
    padded, mask = scree.to_padded(arr, "left", -1)
    assert padded.tolist() == [[-1, 1], [-1, -1], [2, 3]]
    assert mask.tolist() == [[False, True], [False, False], [True, True]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_larger_max_length_pads_further(arr, side):
    padded, mask = scree.to_padded(arr, side, max_length=4)
    assert padded.shape == mask.shape == (3, 4)
    assert mask.sum() == 3
    assert scree.from_padded(padded, mask).values.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("fill", "shown"), [(-0.0, "-0.0"), (0.0, "0.0"), (np.nan, "nan"), (-np.inf, "-inf"), (7, "7.0")]
)
def test_the_padding_holds_exactly_the_fill_value(arr, fill, shown):
    padded, mask = scree.to_padded(arr.astype("float32"), fill_value=fill)
    assert {str(x) for x in padded[~mask].tolist()} == {shown}


def test_booleans_pad_with_false_or_true(arr):
    low = arr < 2
    assert scree.to_padded(low)[0].tolist() == [[True, False], [False, False], [False, False]]
    assert scree.to_padded(low, fill_value=True)[0].tolist() == [[True, True], [True, True], [False, False]]


def test_padding_is_a_copy_that_can_be_written_to(arr):
    padded, mask = scree.to_padded(arr)
    padded[0, 0], mask[0, 0] = -1, False
    assert arr.values.tolist() == [1, 2, 3]
    assert scree.to_padded(arr)[1][0, 0]


@pytest.mark.parametrize("ragged_dim", [1, -2])
def test_the_length_stays_at_the_ragged_axis(ragged_dim):
    arr = scree.from_lengths(np.arange(24).reshape(2, 4, 3), [1, 3], ragged_dim)
    padded, mask = scree.to_padded(arr)
    assert padded.shape == (2, 2, 3, 3)
    assert mask.shape == (2, 3)
    assert padded[1].tolist() == arr[1].tolist()
    again = scree.from_padded(padded, mask, ragged_dim)
    assert again.ragged_dim == 1
    assert again.values.tolist() == arr.values.tolist()


def test_batches_without_elements_pad_to_no_width():
    assert [a.shape for a in scree.to_padded(scree.from_lengths(np.zeros((0, 4)), [0, 0]))] == [(2, 0, 4), (2, 0)]
    assert [a.shape for a in scree.to_padded(scree.from_lengths(np.zeros((0, 4)), []))] == [(0, 0, 4), (0, 0)]


def test_a_loose_hint_is_padded_to_unless_another_length_is_given():
    arr = scree.Array(np.zeros(3), np.array([0, 1, 3]), max_length=9)
    assert scree.to_padded(arr)[0].shape == (2, 9)
    assert scree.to_padded(arr, max_length=2)[0].shape == (2, 2)


@pytest.mark.parametrize("width", [1, 0, -1])
def test_nothing_is_cut_off(arr, width):
    with pytest.raises(scree.ShapeError, match=rf"max_length={width} is shorter than the longest row \(2 elements\)"):
        scree.to_padded(arr, max_length=width)


@pytest.mark.parametrize("side", ["up", "Left", "", None, 0])
def test_other_sides_are_refused(arr, side):
    with pytest.raises(scree.ArgumentError, match=f'side must be "right" or "left", got {side!r}'):
        scree.to_padded(arr, side)


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("int64", np.nan), ("int64", np.inf), ("int8", 300), ("uint8", -1), ("float32", "a")],
)
def test_a_fill_value_that_the_dtype_cannot_hold_is_refused(arr, dtype, fill):
    with pytest.raises(scree.ArgumentError, match=f"fill_value.*{dtype}"):
        scree.to_padded(arr.astype(dtype), fill_value=fill)


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), [1, 2], None])
def test_only_arrays_pad(wrong):
    with pytest.raises(scree.ArgumentTypeError, match=r"arr must be a scree.Array"):
        scree.to_padded(wrong)


# ------------------------------------------------------------------ from_padded


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32])
def test_any_mask_takes_its_true_positions_in_order(dtype):
    padded = np.arange(12).reshape(3, 4)
    mask = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]], dtype)
    arr = scree.from_padded(padded, mask)
    assert [row.tolist() for row in arr] == [[0, 3], [], [9, 10]]
    assert arr.offsets.dtype == np.int32
    assert (arr.max_length, arr.min_length) == (2, 0)


def test_collecting_takes_arrays_that_are_not_contiguous():
    padded = np.arange(24).reshape(4, 3, 2).transpose(1, 0, 2)
    mask = np.array([[True, True, False, True], [False] * 4, [False, True, False, False]])
    assert scree.from_padded(padded, mask).values.tolist() == padded[mask].tolist()
    assert scree.from_padded(padded, np.asfortranarray(mask)).values.tolist() == padded[mask].tolist()


def test_collecting_copies():
    padded = np.zeros((2, 3))
    assert not np.shares_memory(scree.from_padded(padded, np.ones((2, 3), bool)).values, padded)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_nothing_collects_to_empty_rows(shape):
    arr = scree.from_padded(np.zeros((*shape, 5)), np.zeros(shape, bool))
    assert (arr.batch_size, arr.values.shape) == (shape[0], (0, 5))


@pytest.mark.parametrize(
    ("padded", "mask", "message"),
    [
        (np.zeros(3), np.ones(3, bool), r"padded must be at least 2-D, \(batch, length, ...\), got shape \(3,\)"),
        (np.zeros((2, 3)), np.ones((3, 2), bool), r"\(batch, length\) = \(2, 3\), got \(3, 2\)"),
        (np.zeros((2, 3, 4)), np.ones((2, 3, 4), bool), r"\(batch, length\) = \(2, 3\), got \(2, 3, 4\)"),
        (np.zeros((2, 3)), [[1, 1, 1]] * 2, "mask must have shape"),
        (
            np.zeros((1, 2)),
            np.array([[0.0, -1e9]]),
            r"mask\[0, 1\] is -1000000000.0; for an additive mask pass mask == 0",
        ),
        (np.zeros((1, 2)), np.array([[1, np.nan]]), r"mask\[0, 1\] is nan"),
        (np.zeros((1, 2)), np.array([[1, 2]]), r"mask\[0, 1\] is 2"),
    ],
)
def test_wrong_masks_are_named(padded, mask, message):
    with pytest.raises(scree.ShapeError, match=message):
        scree.from_padded(padded, mask)


def test_the_mask_is_measured_at_the_ragged_axis():
    with pytest.raises(scree.ShapeError, match=r"\(batch, length\) = \(2, 4\), got \(2, 3\)"):
        scree.from_padded(np.zeros((2, 3, 4)), np.ones((2, 3), bool), ragged_dim=1)
    with pytest.raises(scree.ShapeError, match="ragged_dim=2 out of range for 2-D values"):
        scree.from_padded(np.zeros((2, 3, 4)), np.ones((2, 3), bool), ragged_dim=2)


def test_a_mask_of_another_library_is_refused():
    with (
        scree.registry.installed_for(LoopbackArray, LoopbackBackend()),
        pytest.raises(scree.ShapeError, match=r"padded and mask belong to different libraries: ndarray \(numpy\)"),
    ):
        scree.from_padded(np.zeros((2, 3)), LoopbackArray(np.ones((2, 3), bool)))


# ------------------------------------------------------------------ cost


@pytest.mark.parametrize("side", ["right", "left"])
def test_ten_thousand_rows_cost_no_more_python_than_ten(side):
    def calls(rows):
        count = 0

        def note(frame, event, arg):
            nonlocal count
            count += event in ("call", "c_call")

        arr = scree.from_lengths(np.zeros((sum(range(7)) * rows, 2)), list(range(7)) * rows)
        sys.setprofile(note)
        try:
            scree.from_padded(*scree.to_padded(arr, side))
        finally:
            sys.setprofile(None)
        return count

    calls(1)  # what is made when first met
    assert calls(1430) == calls(2)
