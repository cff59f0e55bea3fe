"""``Array`` as a pytree."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scree
import scree_jax.backend


@pytest.fixture
def arr():
    return scree.from_lengths(jnp.arange(10.0).reshape(5, 2), [2, 0, 3])


def test_round_trip_keeps_leaves_and_axis_but_no_exact_lengths(arr):
    leaves, tree = jax.tree.flatten(arr)
    assert leaves[0] is arr.values
    assert leaves[1] is arr.offsets
    back = jax.tree.unflatten(tree, leaves)
    assert back.values is arr.values
    assert back.offsets is arr.offsets
    assert (back.ragged_dim, back.total_length, back.max_length, back.min_length) == (0, 5, None, None)


def test_round_trip_keeps_a_tail_and_its_rounded_bound(arr):
    bucketed = scree.bucket(arr, multiple=8, max_length=4)
    back = jax.tree.map(lambda leaf: leaf, bucketed)
    assert (back.layout.tail, back.max_length, back.total_length) == (True, 4, 8)
    assert jax.tree.structure(bucketed) != jax.tree.structure(scree.bucket(arr, multiple=8, max_length=8))
    assert jax.tree.structure(bucketed) != jax.tree.structure(arr)


def test_padding_an_array_from_a_tree_reads_its_offsets(arr):
    padded, _ = scree.to_padded(jax.tree.map(lambda leaf: leaf, arr))
    assert padded.tolist() == scree.to_padded(arr)[0].tolist()


def test_results_of_a_jitted_function_lie_on_the_layout_that_went_in(arr):
    double = jax.jit(lambda a: a * 2)
    for lengths in ([2, 0, 3], [0, 5, 0]):
        out = double(scree.from_lengths(arr.values, lengths))
        assert out.lengths.tolist() == lengths
        assert [row.shape[0] for row in out] == lengths


def test_leaves_are_named(arr):
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(arr)[0]]
    assert paths == [".values", ".layout.offsets"]


@pytest.mark.parametrize("leaf", [None, object(), 0, "x", np.zeros((2, 2)), jax.ShapeDtypeStruct((1,), jnp.float32)])
def test_unflatten_checks_nothing(arr, leaf):
    back = jax.tree.unflatten(jax.tree.structure(arr), [leaf, leaf])
    assert back.values is leaf
    assert back.offsets is leaf


def test_arrays_go_through_transformations(arr):
    doubled = jax.jit(lambda a: a + a)(arr)
    assert isinstance(doubled, scree.Array)
    assert doubled.values.tolist() == (arr.values * 2).tolist()
    assert jax.eval_shape(lambda a: a * 2, arr).values.shape == (5, 2)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), arr, arr)
    sums = jax.vmap(lambda a: (a * 2).values.sum())(stacked)
    assert sums.tolist() == [90, 90]
    _, out = jax.lax.scan(lambda carry, a: (carry, a.values.sum()), 0.0, stacked)
    assert out.tolist() == [45, 45]


def test_ragged_dim_is_static(arr):
    moved = scree.from_lengths(arr.values.T, [2, 0, 3], ragged_dim=1)
    assert jax.tree.structure(arr) != jax.tree.structure(moved)
    assert jax.jit(lambda a: a)(moved).ragged_dim == 1


def test_one_compilation_serves_all_rows_of_one_shape(arr):
    calls = []

    @jax.jit
    def f(a):
        calls.append(1)
        return a.values.sum()

    f(arr)
    f(arr * 2)
    f(scree.from_lengths(arr.values, [3, 2, 0]))
    f(scree.from_lengths(arr.values, [0, 0, 5]))
    assert len(calls) == 1


def test_numpy_arrays_go_into_jit_too():
    scree.preload("jax")
    out = jax.jit(lambda a: a * 2)(scree.from_lengths(np.ones(3, np.float32), [1, 2]))
    assert isinstance(out.values, jax.Array)


def test_grad_takes_an_array_by_its_values(arr):
    grads = jax.grad(lambda a: (a * a).values.sum(), allow_int=True)(arr)
    assert grads.values.tolist() == (arr.values * 2).tolist()


def test_reloading_the_backend_registers_nothing_twice():
    importlib.reload(scree_jax.backend)
