"""Layout: what it refuses, what it knows for free, what it keeps, and when two of them are the same."""

import copy
import pickle
import weakref

import numpy as np
import pytest

from scree_core import ArgumentTypeError, Layout, ShapeError
from scree_core.layout import INT32_MAX, offsets_from_lengths
from scree_core.testing.loopback import LoopbackArray


def layout(*offsets, dtype=np.int32, **options):
    return Layout(np.array(offsets, dtype), **options)


def on_device(*offsets, **options):
    """Return a layout whose offsets the host can't read, as on a GPU."""
    return Layout(LoopbackArray(np.array(offsets, np.int32)), **options)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        (np.zeros((2, 2), np.int32), r"offsets must be 1-D, got shape \(2, 2\)"),
        (np.array(0, np.int32), r"offsets must be 1-D, got shape \(\)"),
        (np.zeros(0, np.int32), "offsets must have at least one element"),
        (np.array([0.0, 2.0]), "offsets must be integers of dtype int32 or int64, got float64"),
        (np.array([0, 2], np.uint8), "offsets must be integers of dtype int32 or int64, got uint8"),
        (np.array([0, 2], np.int16), "offsets must be integers of dtype int32 or int64, got int16"),
        (np.array([False, True]), "offsets must be integers of dtype int32 or int64, got bool"),
        (np.array([1, 2], np.int32), r"offsets\[0\] must be 0, got 1"),
        (np.array([0, 3, 2, 2, 1]), r"offsets must be non-decreasing, but offsets\[2\] < offsets\[1\] \(2 < 3\)"),
    ],
)
def test_bad_offsets_are_refused_with_what_is_wrong(offsets, message):
    with pytest.raises(ShapeError, match=message):
        Layout(offsets)


@pytest.mark.parametrize("offsets", [[0, 2], (0, 2), None, 3])
def test_offsets_that_are_no_array_point_to_from_lengths(offsets):
    with pytest.raises(ArgumentTypeError, match=r"offsets must be an array, got .*scree.from_lengths"):
        Layout(offsets)


def test_int32_offsets_that_wrapped_around_are_refused():
    wrapped = np.array([0, 2**31 - 1, 2**31 + 5 - 2**32], np.int32)
    with pytest.raises(ShapeError, match=r"offsets\[2\] < offsets\[1\]"):
        Layout(wrapped)


def test_the_offsets_object_is_kept():
    offsets = np.array([0, 2])
    assert Layout(offsets).offsets is offsets
    assert Layout(offsets).host is offsets


def test_a_single_offset_is_a_batch_of_no_rows():
    none = layout(0)
    assert (none.batch_size, none.max_length, none.min_length) == (0, 0, 0)
    assert none.lengths.shape == (0,)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_lengths_are_of_the_offsets_dtype(dtype):
    lengths = layout(0, 2, 2, 5, dtype=dtype).lengths
    assert lengths.tolist() == [2, 0, 3]
    assert lengths.dtype == dtype


def test_lengths_are_the_callers_to_write_to():
    shared = layout(0, 2, 5)
    shared.lengths[:] = 0
    assert shared.lengths.tolist() == [2, 3]


def test_host_offsets_are_measured_when_first_asked():
    measured = layout(0, 2, 2, 5)
    assert (measured.max_length, measured.min_length) == (3, 0)
    assert type(measured.max_length) is int


def test_offsets_on_a_device_are_not_measured():
    assert (on_device(0, 2, 5).max_length, on_device(0, 2, 5).min_length) == (None, None)


def test_offsets_on_a_device_are_not_read_at_construction():
    assert on_device(7, 3).batch_size == 1  # wrong values: Array.validate finds them


def test_hints_are_kept_even_where_they_are_loose():
    hinted = layout(0, 2, 5, max_length=100, min_length=1)
    assert (hinted.max_length, hinted.min_length) == (100, 1)
    assert on_device(0, 2, 5, max_length=3).max_length == 3


def test_hints_that_do_not_bound_the_rows_are_refused():
    with pytest.raises(ShapeError, match="max_length=2 is too small: row 1 has 3 elements"):
        layout(0, 2, 5, 6, max_length=2)
    with pytest.raises(ShapeError, match="min_length=2 is too large: row 2 has 1 elements"):
        layout(0, 2, 5, 6, min_length=2)


def test_a_layout_is_immutable():
    fixed = layout(0, 2)
    with pytest.raises(AttributeError, match="immutable: can't set 'offsets'"):
        fixed.offsets = np.array([0, 3])
    with pytest.raises(AttributeError, match="immutable: can't delete 'offsets'"):
        del fixed.offsets
    with pytest.raises(AttributeError, match="immutable"):
        fixed.note = 1


def test_a_layout_can_be_weakly_referenced_and_hashed():
    fixed = layout(0, 2)
    assert weakref.ref(fixed)() is fixed
    assert {fixed: 1}[fixed] == 1


def test_what_derives_is_built_once():
    built = []
    shared = layout(0, 2)
    for _ in range(2):
        assert shared.derived("plan", lambda: built.append(1) or "tiles") == "tiles"
    assert built == [1]


def test_a_derived_value_that_fails_to_build_is_not_kept():
    shared = layout(0, 2)
    with pytest.raises(ZeroDivisionError):
        shared.derived("plan", lambda: 1 / 0)
    assert shared.derived("plan", lambda: "tiles") == "tiles"


def test_layouts_are_the_same_by_identity_or_by_content():
    offsets = np.array([0, 2, 5], np.int32)
    assert Layout(offsets).same(Layout(offsets)) is True
    assert Layout(offsets).same(layout(0, 2, 5, dtype=np.int64)) is True
    assert Layout(offsets).same(layout(0, 3, 5)) is False
    assert Layout(offsets).same(layout(0, 5)) is False
    assert Layout(offsets).same(layout(0, 2, 6)) is False


def test_layouts_on_a_device_differ_only_where_the_host_can_tell():
    one = on_device(0, 2, 5, total=5)
    assert one.same(Layout.trusted(one.offsets)) is True
    assert one.same(on_device(0, 2, 5, total=5)) is None
    assert one.same(on_device(0, 2, 6, total=6)) is False
    assert one.same(on_device(0, 5, total=5)) is False


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles_keep_offsets_and_hints(again):
    for original in (layout(0, 2, 5, total=5, max_length=100), on_device(0, 2, 5, total=5, max_length=100)):
        back = again(original)
        assert (back.total, back.max_length, back.batch_size) == (5, 100, 2)
        assert type(back.offsets) is type(original.offsets)
        assert (back.host is None) == (original.host is None)


def test_a_copy_derives_anew():
    original = layout(0, 2)
    original.derived("plan", lambda: "old")
    assert copy.copy(original).derived("plan", lambda: "new") == "new"


def test_repr_names_what_the_host_knows():
    assert repr(layout(0, 2, 5, total=5, max_length=4)) == "scree.Layout(batch_size=2, total=5, max_length=4)"


def test_offsets_stay_int32_up_to_its_largest_value():
    offsets = offsets_from_lengths(np.array([INT32_MAX - 1, 1]))
    assert offsets.dtype == np.int32
    assert offsets.tolist() == [0, INT32_MAX - 1, INT32_MAX]


def test_offsets_become_int64_rather_than_wrap():
    for dtype in (np.int32, np.int64):
        offsets = offsets_from_lengths(np.array([INT32_MAX, 1], dtype))
        assert offsets.dtype == np.int64
        assert offsets.tolist() == [0, INT32_MAX, 2**31]
