"""The rows of an Array as libraries of nested lists take them."""

import numpy as np
import pytest

from scree_core import Array
from scree_core.bridges.host_rows import host_rows


def unaligned(values):
    """Return the same numbers one byte off."""
    room = np.zeros(values.nbytes + 1, np.uint8)
    room[1:] = values.view(np.uint8)
    return room[1:].view(values.dtype)


@pytest.mark.parametrize("offset_dtype", [np.int32, np.int64])
def test_rows_that_lie_well_are_the_arrays_own(offset_dtype):
    arr = Array(np.arange(6.0).reshape(3, 2), np.array([0, 1, 3], offset_dtype))
    values, offsets = host_rows(arr)
    assert np.shares_memory(values, arr.values)
    assert np.shares_memory(offsets, arr.offsets)


@pytest.mark.parametrize(
    "change", [unaligned, lambda x: x.astype(x.dtype.newbyteorder()), lambda x: np.repeat(x, 2)[::2]]
)
def test_rows_that_lie_otherwise_are_copied_to_lie_well(change):
    values, offsets = change(np.arange(3.0)), np.array([0, 1, 3], np.int32)
    given = Array(values, unaligned(offsets))
    for got, wanted in zip(host_rows(given), (np.arange(3.0), offsets), strict=True):
        assert got.flags.c_contiguous
        assert got.flags.aligned
        assert got.dtype == wanted.dtype
        assert np.array_equal(got, wanted)


def test_a_tail_is_left_out_without_a_copy():
    arr = Array(np.arange(7.0), np.array([0, 1, 4]), tail=True)
    values, _ = host_rows(arr)
    assert values.tolist() == [0, 1, 2, 3]
    assert np.shares_memory(values, arr.values)
