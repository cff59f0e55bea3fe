"""Gradients by Arrays."""

from typing import NamedTuple

import mlx.core as mx
import pytest

import scree
import scree_mlx


class Pair(NamedTuple):
    first: object
    second: object


@pytest.fixture
def arr():
    return scree.from_lengths(mx.array([1.0, 2.0, 4.0]), [1, 0, 2])


def test_gradient_by_an_array_is_an_array_on_its_layout(arr):
    found = scree_mlx.grad(lambda x: (x * x).values.sum())(arr)
    assert found.layout is arr.layout
    assert found.values.tolist() == [2, 4, 8]


def test_value_comes_along(arr):
    value, found = scree_mlx.value_and_grad(lambda x: scree.varlen_sum(x).square().sum())(arr)
    assert value.item() == 37
    assert found.values.tolist() == [2, 12, 12]


def test_more_results_come_back_whole(arr):
    (loss, doubled), found = scree_mlx.value_and_grad(lambda x: ((x * 2).values.sum(), x * 2))(arr)
    assert loss.item() == 14
    assert doubled.values.tolist() == [2, 4, 8]
    assert doubled.layout is arr.layout
    assert found.values.tolist() == [2, 2, 2]


def test_arrays_in_trees_have_gradients(arr):
    weight = mx.array(3.0)

    def loss(tree):
        return (tree["pair"].first * tree["pair"].second * tree["more"][0]).values.sum()

    found = scree_mlx.grad(loss)({"pair": Pair(arr, weight), "more": [arr.with_values(arr.values + 1)]})
    assert found["pair"].first.values.tolist() == [6, 9, 15]
    assert found["pair"].second.item() == 2 + 6 + 20
    assert found["more"][0].values.tolist() == [3, 6, 12]
    assert isinstance(found["pair"], Pair)


@pytest.mark.parametrize("argnums", [1, [1], (0, 1)])
def test_arguments_are_chosen_by_number(arr, argnums):
    found = scree_mlx.grad(lambda w, x: (x * w).values.sum(), argnums=argnums)(mx.array(3.0), arr)
    if argnums == (0, 1):
        assert found[0].item() == 7
        found = found[1]
    assert found.values.tolist() == [3, 3, 3]


def test_arguments_are_chosen_by_name(arr):
    def loss(w, *, x):
        return (x * w).values.sum()

    nothing, found = scree_mlx.grad(loss, argnames="x")(mx.array(3.0), x=arr)
    assert nothing is None
    assert found["x"].values.tolist() == [3, 3, 3]
    value, (by_w, by_name) = scree_mlx.value_and_grad(loss, argnums=0, argnames=["x"])(mx.array(3.0), x=arr)
    assert (value.item(), by_w.item(), by_name["x"].values.tolist()) == (21, 7, [3, 3, 3])


def test_integers_have_no_gradient(arr):
    with pytest.raises(scree.ScreeError, match=r"no gradient by an Array of mlx.core.int32: cast it"):
        scree_mlx.grad(lambda x: x.values.sum())(arr.astype("int32"))


def test_wrong_argument_numbers_are_mlx_own_errors(arr):
    with pytest.raises(ValueError, match="argument index 3"):
        scree_mlx.grad(lambda x: x.values.sum(), argnums=3)(arr)


def test_gradients_of_gradients(arr):
    first = scree_mlx.grad(lambda x: (x * x * x).values.sum())
    second = scree_mlx.grad(lambda x: first(x).values.sum())(arr)
    assert second.values.tolist() == [6, 12, 24]


def test_plain_arrays_work_as_in_mlx():
    assert scree_mlx.grad(lambda x: x.square().sum())(mx.array([3.0])).tolist() == [6]
