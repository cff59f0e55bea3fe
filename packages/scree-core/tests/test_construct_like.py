"""full_like, zeros_like and empty_like: other values on the same layout."""

import numpy as np
import pytest

import scree_core as scree

MAKERS = [lambda arr, **k: scree.full_like(arr, 7, **k), scree.zeros_like, scree.empty_like]


@pytest.fixture
def arr():
    return scree.from_lengths(np.ones((3, 2), np.float32), [1, 2])


@pytest.mark.parametrize("make", MAKERS)
def test_layout_and_dtype_are_those_of_the_original(arr, make):
    made = make(arr)
    assert made.layout is arr.layout
    assert (made.dtype, made.values.shape) == (np.float32, (3, 2))
    assert not np.shares_memory(made.values, arr.values)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("dtype", ["int8", np.int8, "bfloat16"])
def test_another_dtype_may_be_named(arr, make, dtype):
    assert make(arr, dtype=dtype).dtype.name == (dtype if isinstance(dtype, str) else "int8")


def test_values_are_what_was_asked_for(arr):
    assert (scree.full_like(arr, -2.5).values == -2.5).all()
    assert (scree.zeros_like(arr).values == 0).all()
    assert np.isnan(scree.full_like(arr, np.nan).values).all()


def test_empty_like_writes_nothing(arr, monkeypatch):
    made = np.full((3, 2), 5, np.float32)
    monkeypatch.setattr(np, "empty_like", lambda *a, **k: made)
    assert scree.empty_like(arr).values is made


@pytest.mark.parametrize("make", MAKERS)
def test_the_ragged_axis_stays(make):
    moved = scree.from_lengths(np.ones((2, 3)), [1, 2], ragged_dim=1)
    assert make(moved).ragged_dim == 1


@pytest.mark.parametrize("make", MAKERS)
def test_only_arrays_are_imitated(make):
    with pytest.raises(scree.ArgumentTypeError, match=r"arr must be a scree.Array, got ndarray"):
        make(np.zeros(3))
