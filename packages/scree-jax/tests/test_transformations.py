"""Every op under JAX's transformations, with offsets that are traced wherever a transformation traces them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scree


def loss(op, arr):
    return (op(arr) ** 2).sum()


def gradient(op, arr):
    return jax.grad(lambda values: loss(op, arr.with_values(values)))(arr.values)


def assert_close(got, expected):
    got, expected = np.asarray(got), np.asarray(expected)
    np.testing.assert_allclose(got, expected, rtol=0, atol=32 * np.finfo(np.float32).eps * max(1, abs(expected).max()))


def other_rows(arr):
    """The same values in rows of other lengths."""
    return scree.Array(arr.values, jnp.array([0, 40, 41, 41, 60, 79], jnp.int32))


def test_jit_takes_offsets_as_arguments(op, arr):
    compiled = jax.jit(op)
    for given in (arr, other_rows(arr)):
        assert_close(compiled(given), op(given))


def test_grad_under_jit(op, arr):
    compiled = jax.jit(lambda values, arr: jax.grad(lambda v: loss(op, arr.with_values(v)))(values))
    for given in (arr, other_rows(arr)):
        assert_close(compiled(given.values, given), gradient(op, given))


def test_grad_of_an_array_gives_an_array(op, arr):
    grads = jax.grad(lambda a: loss(op, a), allow_int=True)(arr)
    assert_close(grads.values, gradient(op, arr))


def test_vmap_over_values(op, arr):
    values = jnp.stack([arr.values, arr.values * 2])
    mapped = jax.vmap(lambda v: op(arr.with_values(v)))(values)
    for i in range(2):
        assert_close(mapped[i], op(arr.with_values(values[i])))


def test_vmap_over_heads(op, arr):
    # A head keeps its axis, since attention wants one.
    def of_one_head(v):
        return op(arr.with_values(v[:, None]))

    mapped = jax.vmap(of_one_head, in_axes=1, out_axes=0)(arr.values)
    for head in range(2):
        assert_close(mapped[head], of_one_head(arr.values[:, head]))


def test_vmap_over_arrays_and_their_gradients(op, arr):
    both = arr, other_rows(arr)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    results, grads = jax.vmap(lambda a: (op(a), gradient(op, a)))(stacked)
    for i, one in enumerate(both):
        assert_close(results[i], op(one))
        assert_close(grads[i], gradient(op, one))


def test_scan_over_arrays(op, arr):
    both = arr, other_rows(arr)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    total, each = jax.lax.scan(lambda carry, a: (carry + op(a).sum(), op(a)), 0.0, stacked)
    assert_close(total, sum(op(one).sum() for one in both))
    assert_close(each[1], op(both[1]))


def test_an_array_is_a_carry(op, arr):
    def step(_, a):
        return a.with_values(a.values + op(a).sum() / 1024)

    looped = jax.lax.fori_loop(0, 2, step, arr)
    assert_close(looped.values, step(0, step(0, arr)).values)


def test_cond_on_arrays(op, arr):
    chosen = jax.jit(lambda flag, a: jax.lax.cond(flag, op, lambda a: 2 * op(a), a))
    assert_close(chosen(True, arr), op(arr))
    assert_close(chosen(False, arr), 2 * op(arr))


def test_remat_gives_the_same_gradient(op, arr):
    kept = jax.jit(jax.grad(lambda v: loss(jax.checkpoint(op), arr.with_values(v))))
    assert_close(kept(arr.values), gradient(op, arr))


def draw(shape, seed):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_forward_mode_agrees_with_reverse_mode(forward_op, arr):
    out, pull = jax.vjp(lambda v: forward_op(arr.with_values(v)), arr.values)
    tangent, cotangent = draw(arr.values.shape, 2), draw(out.shape, 3)
    _, pushed = jax.jvp(lambda v: forward_op(arr.with_values(v)), (arr.values,), (tangent,))
    (pulled,) = pull(cotangent)
    assert abs((pushed * cotangent).sum() - (pulled * tangent).sum()) <= 1e-6 * abs(pulled * tangent).sum()


def test_second_order_gradients_agree_in_both_modes(forward_op, arr):
    def f(values):
        return loss(forward_op, arr.with_values(values))

    tangent = draw(arr.values.shape, 2)
    forward_over_reverse = jax.jvp(jax.grad(f), (arr.values,), (tangent,))[1]
    reverse_over_reverse = jax.grad(lambda v: (jax.grad(f)(v) * tangent).sum())(arr.values)
    tolerance = 1e-5 * max(1, abs(forward_over_reverse).max())
    np.testing.assert_allclose(reverse_over_reverse, forward_over_reverse, rtol=0, atol=tolerance)


def test_attention_refuses_forward_mode_and_dense_takes_it(arr):
    def f(values, backend):
        x = arr.with_values(values)
        return scree.varlen_attention(x, x, x, backend=backend).values

    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda v: f(v, None), (arr.values,), (arr.values,))
    jax.jvp(lambda v: f(v, "jax.dense"), (arr.values,), (arr.values,))


def test_values_can_be_donated_beside_shared_offsets(arr):
    # Arrays that share a layout share its buffer, which must not be donated twice: so the values alone.
    step = jax.jit(lambda values, offsets: scree.varlen_softmax(scree.Array(values, offsets)).values, donate_argnums=0)
    expected, given = scree.varlen_softmax(arr).values, arr.values + 0
    assert_close(step(given, arr.offsets), expected)
    assert given.is_deleted()
    assert_close(step(arr.values + 0, arr.offsets), expected)
