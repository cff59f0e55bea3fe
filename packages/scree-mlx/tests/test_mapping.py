"""Functions mapped over an axis of Arrays."""

import mlx.core as mx
import numpy as np
import pytest

import scree
import scree_mlx

OPS = {
    "softmax": lambda x: scree.varlen_softmax(x).values,
    "cumsum": lambda x: scree.varlen_cumsum(x).values,
    "sum": scree.varlen_sum,
    "mean": scree.varlen_mean,
    "max": lambda x: scree.varlen_max(x, empty=0.0),
    "min": lambda x: scree.varlen_min(x, empty=0.0),
    "logsumexp": lambda x: scree.varlen_logsumexp(x, empty=0.0),
    "to_padded": lambda x: scree.to_padded(x)[0],
    "rows": lambda x: x[[2, 0]].values,
}


@pytest.fixture
def arr():
    values = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    values[3:5] = 1.0  # ties, which share their gradient
    return scree.from_lengths(mx.array(values), [2, 0, 4])


@pytest.mark.parametrize("name", OPS)
def test_ops_map_over_features_with_gradients(arr, name):
    op = OPS[name]
    mapped = scree_mlx.vmap(op, in_axes=1, out_axes=1 if name != "to_padded" else 2)
    np.testing.assert_allclose(mapped(arr), op(arr), rtol=1e-6)
    by_mapped = scree_mlx.grad(lambda x: (mapped(x) ** 2).sum())(arr)
    expected = scree_mlx.grad(lambda x: (op(x) ** 2).sum())(arr)
    np.testing.assert_allclose(by_mapped.values, expected.values, atol=1e-5)


def test_gradients_may_be_taken_inside(arr):
    inside = scree_mlx.vmap(scree_mlx.grad(lambda x: scree.varlen_max(x, empty=0.0).sum()), in_axes=1, out_axes=1)(arr)
    expected = scree_mlx.grad(lambda x: scree.varlen_max(x, empty=0.0).sum())(arr)
    assert inside.values.tolist() == expected.values.tolist()
    assert inside.layout is arr.layout


def test_attention_maps_over_heads():
    x = scree.from_lengths(mx.random.normal((5, 1, 3, 8)), [2, 3])
    out = scree_mlx.vmap(lambda x: scree.varlen_attention(x, x, x, causal=True), in_axes=2, out_axes=2)(x)
    heads = x.with_values(x.values[:, 0])
    expected = scree.varlen_attention(heads, heads, heads, causal=True)
    np.testing.assert_allclose(out.values[:, 0], expected.values, atol=1e-6)


@pytest.mark.parametrize(("ragged_dim", "in_axis", "inner"), [(0, 1, 0), (1, 0, 0), (1, 2, 1), (1, -1, 1), (2, -3, 1)])
@pytest.mark.parametrize("out_axis", [0, 1, 2, -1])
def test_axes_move_around_the_ragged_one(ragged_dim, in_axis, inner, out_axis):
    shape = [2, 3, 4]
    shape[ragged_dim] = 5
    arr = scree.from_lengths(mx.arange(5 * 24 // [2, 3, 4][ragged_dim]).reshape(shape), [2, 3], ragged_dim)
    seen = []

    def fn(x):
        seen.append(x.ragged_dim)
        return x + 1

    out = scree_mlx.vmap(fn, in_axes=in_axis, out_axes=out_axis)(arr)
    assert set(seen) == {inner}
    assert out.layout is arr.layout
    assert out.values.shape[out.ragged_dim] == 5
    assert out.values.tolist() == mx.moveaxis(arr.values + 1, in_axis, out_axis).tolist()


def test_axes_are_given_for_trees(arr):
    weights = mx.arange(4.0)
    out = scree_mlx.vmap(
        lambda tree, bias: {"a": tree["x"] * tree["w"] + bias, "b": tree["w"]}, in_axes=({"x": 1, "w": 0}, None)
    )({"x": arr, "w": weights}, mx.array(1.0))
    assert out["a"].ragged_dim == 1
    np.testing.assert_allclose(out["a"].values, mx.moveaxis(arr.values * weights[:, None] + 1, 1, 0))
    assert out["b"].tolist() == weights.tolist()


def test_unmapped_arrays_and_results_stay(arr):
    out = scree_mlx.vmap(lambda x, w: (x, x * w), in_axes=(None, 0), out_axes=(None, 1))(arr, mx.arange(2.0))
    assert out[0].values.tolist() == arr.values.tolist()
    assert out[0].ragged_dim == 0
    assert out[1].values.shape == (6, 2, 4, 3)


def test_trees_of_axes_must_fit(arr):
    with pytest.raises(scree.ArgumentError, match="doesn't have the structure of its tuple of 1"):
        scree_mlx.vmap(lambda x: x, in_axes=(1, 1))(arr)


@pytest.mark.parametrize("axis", [0, -3, 3])
def test_rows_are_not_mapped_over(arr, axis):
    with pytest.raises(scree.ShapeError, match="rows aren't mapped over"):
        scree_mlx.vmap(lambda x: x, in_axes=axis)(arr)


def test_layouts_of_the_inside_stay_inside(arr):
    def fn(x):
        padded, mask = scree.to_padded(x)
        return scree.from_padded(padded, mask, capacity=6)

    with pytest.raises(scree.UnsupportedError, match="a layout that it has made; return its values"):
        scree_mlx.vmap(fn, in_axes=1)(arr)


def test_other_results_are_refused(arr):
    with pytest.raises(scree.ArgumentTypeError, match="got str"):
        scree_mlx.vmap(lambda x: "no", in_axes=1)(arr)
