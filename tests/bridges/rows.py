"""Rows to cross with, and what every bridge to NumPy's memory and back must keep."""

import numpy as np
import pytest

from scree_core import Array, from_lengths

FEATURES = [(), (2,), (3, 2), (0,), (0, 2), (2, 0)]


def make(features=(), dtype=np.float32, offset_dtype=np.int32):
    offsets = np.array([0, 2, 2, 5], offset_dtype)
    return Array(np.arange(5 * np.prod(features, dtype=int)).reshape(5, *features).astype(dtype), offsets)


def check_equal(got, expected):
    assert got.values.dtype == expected.values.dtype
    assert got.values.shape == expected.values.shape
    assert got.offsets.dtype == expected.offsets.dtype
    assert np.array_equal(got.values, expected.values)
    assert np.array_equal(got.offsets, expected.offsets)


class RowsComeBack:
    """The tests of a class that has the functions ``there`` and ``back``."""

    @pytest.mark.parametrize("features", FEATURES, ids=str)
    @pytest.mark.parametrize("offset_dtype", [np.int32, np.int64])
    def test_rows_come_back_as_they_were(self, features, offset_dtype):
        arr = make(features, offset_dtype=offset_dtype)
        check_equal(self.back(self.there(arr)), arr)

    @pytest.mark.parametrize("batch", [0, 2])
    def test_batches_without_elements_come_back(self, batch):
        arr = from_lengths(np.zeros((0, 3), np.int16), [0] * batch)
        check_equal(self.back(self.there(arr)), arr)

    @pytest.mark.parametrize(
        "change", [lambda x: x[::2], lambda x: x[:3].astype(">f4"), lambda x: np.asfortranarray(x[:3])]
    )
    def test_values_that_lie_otherwise_come_right(self, change):
        values = change(np.arange(12, dtype=np.float32).reshape(6, 2))
        back = self.back(self.there(from_lengths(values, [1, 2])))
        assert np.array_equal(back.values, values)
        assert back.dtype == np.float32
