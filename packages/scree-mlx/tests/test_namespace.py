"""The array API names on MLX functions, and what is mended in them."""

import mlx.core as mx
import numpy as np
import pytest

from scree_core.protocols import Namespace
from scree_mlx import namespace as xp

NAN, INF = float("nan"), float("inf")


def test_namespace_has_the_names_of_the_protocol_alone():
    assert sorted(xp.__all__) == sorted(Namespace.__annotations__)


def test_take_never_reads_beyond_the_array():
    taken = xp.take(mx.arange(4), mx.array([100, -100, 2]), axis=0)
    assert taken.tolist() == [3, 0, 2]


def test_take_of_nothing_has_a_gradient():
    x, index = mx.ones((3, 0)), mx.array([0, 2])
    _, (grad,) = mx.vjp(lambda x: [xp.take(x, index, axis=0)], [x], [mx.ones((2, 0))])
    mx.eval(grad)
    assert grad.shape == (3, 0)
    assert xp.take(mx.ones((0, 2)), mx.zeros(0, dtype=mx.int32), axis=0).shape == (0, 2)


@pytest.mark.parametrize("name", ["int8", "int16", "int32", "uint8", "uint32", "bool_"])
def test_integers_add_up_in_64_bits(name):
    dtype = getattr(mx, name)
    top = 1 if name == "bool_" else np.iinfo(name).max
    x = mx.full((300,), top, dtype=dtype)
    total = top * 300
    assert xp.sum(x, axis=0).item() == total
    assert xp.cumulative_sum(x, axis=0)[-1].item() == total


def test_sum_of_an_empty_slice_ends():
    assert xp.sum(mx.ones((16, 3))[:, :0], axis=1).tolist() == [0] * 16


def test_where_lets_no_nan_through_its_gradient():
    condition = mx.array([True, False])
    x, y, cotangent = mx.array([1.0, 2.0]), mx.array([3.0, 4.0]), mx.array([NAN, 5.0])
    _, (dx, dy) = mx.vjp(lambda x, y: [xp.where(condition, x, y)], [x, y], [cotangent])
    assert np.array_equal(np.asarray(dx), [NAN, 0], equal_nan=True)
    assert dy.tolist() == [0, 5]


def test_where_broadcasts_and_sums_its_gradient():
    _, (grad,) = mx.vjp(
        lambda y: [xp.where(mx.array([True, False, False]), mx.zeros(3), y)], [mx.array(2.0)], [mx.ones(3)]
    )
    assert grad.item() == 2


@pytest.mark.parametrize(("dtype", "rtol"), [(mx.float64, 1e-15), (mx.float32, 3e-7)])
def test_exp_is_as_precise_as_its_dtype(dtype, rtol, on_cpu):
    x = np.linspace(-80, 80, 1001).astype("float64" if dtype == mx.float64 else "float32")
    m = mx.array(x, dtype=dtype)
    truth = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(np.asarray(xp.exp(m)), truth, rtol=rtol)
    _, (grad,) = mx.vjp(lambda x: [xp.exp(x)], [m], [mx.ones_like(m)])
    np.testing.assert_allclose(np.asarray(grad), truth, rtol=rtol)


def test_exp_knows_infinities_and_nan():
    out = xp.exp(mx.array([-INF, INF, NAN, 0.0, -1000.0, 1000.0]))
    assert np.array_equal(np.asarray(out), [0, INF, NAN, 1, 0, INF], equal_nan=True)


def test_exp_has_second_derivatives():
    second = mx.grad(lambda x: mx.grad(lambda y: xp.exp(2 * y).sum())(x).sum())(mx.array([0.0]))
    assert second.item() == pytest.approx(4)


@pytest.mark.parametrize("reduce", [xp.max, xp.min])
def test_ties_share_the_gradient_equally(reduce):
    _, (grad,) = mx.vjp(lambda x: [reduce(x, axis=0)], [mx.full((4,), 2.0)], [mx.array(1.0)])
    assert grad.tolist() == [0.25] * 4


def test_full_holds_the_largest_unsigned_integer():
    assert xp.full((2,), 2**64 - 1, dtype=mx.uint64).tolist() == [2**64 - 1] * 2
