"""Padding and unpadding, and their gradients."""

import mlx.core as mx
import numpy as np
import pytest

import scree

MASK = mx.array([[True, False, True], [False, False, False], [True, True, False]])
PADDED = mx.arange(9.0).reshape(3, 3)


@pytest.mark.parametrize(
    ("capacity", "values", "offsets"),
    [(6, [0, 2, 6, 7, 0, 0], [0, 2, 2, 4]), (4, [0, 2, 6, 7], [0, 2, 2, 4]), (3, [0, 2, 6], [0, 2, 2, 3])],
    ids=["room", "exact", "too small"],
)
def test_capacity_fixes_the_shape_without_a_read(capacity, values, offsets):
    arr = scree.from_padded(PADDED, MASK, capacity=capacity)
    assert arr.values.tolist() == values
    assert arr.offsets.tolist() == offsets
    assert arr.layout.tail
    assert arr.max_length == 3


@pytest.mark.parametrize("capacity", [None, 4, 6])
def test_gradients_go_to_the_cells_that_were_taken(capacity):
    upstream = mx.arange(1.0, 7.0)

    def loss(padded):
        out = scree.from_padded(padded, MASK, capacity=capacity).values
        return (out * upstream[: out.shape[0]]).sum()

    assert mx.grad(loss)(PADDED).tolist() == [[1, 0, 2], [0, 0, 0], [3, 4, 0]]


def test_fill_has_no_gradient():
    arr = scree.from_lengths(mx.arange(3.0), [1, 2])
    found = mx.grad(lambda v: scree.to_padded(arr.with_values(v), fill_value=5.0)[0].sum())(arr.values)
    assert found.tolist() == [1, 1, 1]


def test_selected_rows_add_up_their_gradients_in_float32():
    arr = scree.from_lengths(mx.ones(2, dtype=mx.bfloat16), [1, 1])
    found = mx.grad(lambda v: arr.with_values(v)[[0] * 1000].values.astype(mx.float32).sum())(arr.values)
    assert found.tolist() == [1000, 0]


def test_repeated_rows_add_up_their_gradients_in_float32():
    arr = scree.from_lengths(mx.ones(1000, dtype=mx.bfloat16), [1000])
    found = mx.grad(lambda v: scree.repeat_rows(v, arr).values.astype(mx.float32).sum())(mx.ones(1, dtype=mx.bfloat16))
    assert found.tolist() == [1000]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "int64"])
def test_whole_numbers_survive(dtype):
    values = np.array([1, 0, 1, 1, 0]).astype(dtype) * np.array(1 if dtype == "bool" else np.iinfo(dtype).max, dtype)
    arr = scree.from_lengths(mx.array(values), [2, 0, 3])
    back = scree.from_padded(*scree.to_padded(arr, side="left"))
    assert np.array_equal(np.asarray(back.values), values)
