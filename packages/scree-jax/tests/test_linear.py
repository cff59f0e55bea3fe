"""Linear maps with a transpose of their own."""

import jax
import jax.numpy as jnp
import numpy as np

from scree_jax.linear import with_transpose

X = jnp.arange(3.0)


def double(x):
    """Multiply by 2, and by 3 on the way back, so that one sees which way was taken."""
    return with_transpose(lambda x: 2 * x, lambda d: 3 * d, x)


def test_both_directions_are_those_given():
    out, pull = jax.vjp(double, X)
    assert out.tolist() == [0, 2, 4]
    assert pull(jnp.ones(3))[0].tolist() == [3, 3, 3]
    assert jax.jvp(double, (X,), (jnp.ones(3),))[1].tolist() == [2, 2, 2]


def test_the_transpose_of_the_transpose_is_the_map():
    second = jax.grad(lambda d: jax.vjp(double, X)[1](d)[0].sum())(jnp.ones(3))
    assert second.tolist() == [2, 2, 2]


def test_shapes_may_differ_and_be_batched():
    def first_two(x, count):
        return with_transpose(lambda x, n: x[:2] * n, lambda d, n: jnp.pad(d * n, (0, 1)), x, count)

    batched = jax.vmap(jax.grad(lambda x, n: first_two(x, n).sum()))(jnp.ones((2, 3)), jnp.array([5, 7]))
    assert batched.tolist() == [[5, 5, 0], [7, 7, 0]]


def test_signs_of_zero_and_nan_pass_unchanged():
    moved = with_transpose(lambda x: x[::-1], lambda d: d[::-1], jnp.array([-0.0, jnp.nan, jnp.inf]))
    assert np.signbit(moved[2])
    assert np.isnan(moved[1])
    assert moved[0] == jnp.inf


def test_nothing_in_nothing_out():
    assert jax.grad(lambda x: double(x).sum())(jnp.ones(0)).shape == (0,)
