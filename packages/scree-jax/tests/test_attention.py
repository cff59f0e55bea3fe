"""Attention by blocks and through one matrix: what the conformance suite has too few elements to show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scree
from scree_jax.attention import tiles
from scree_jax.attention.tiles import block_range

TILE = tiles.TILE["cpu"]


def draw(lengths, heads=2, dim=8, seed=0):
    values = np.random.default_rng(seed).standard_normal((sum(lengths), heads, dim)).astype(np.float32)
    return scree.from_lengths(jnp.asarray(values), lengths)


LENGTHS = {
    "many_short_rows": (1, 2, 3) * 70,
    "rows_that_straddle_tiles": (TILE - 1, 2, TILE, TILE + 1, 3 * TILE),
    "one_long_row": (5 * TILE + 3,),
}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": (70, 3)}, {"causal": True, "window": (9, -1)}])
def test_blocks_agree_with_one_matrix(lengths, options):
    q, k, v = draw(lengths, heads=4), draw(lengths, seed=1), draw(lengths, dim=6, seed=2)

    def loss(q_values, k_values, v_values, backend):
        rows = q.with_values(q_values), k.with_values(k_values), v.with_values(v_values)
        out, lse = scree.varlen_attention(*rows, **options, return_lse=True, backend=backend)
        return (out.values * jnp.cos(out.values)).sum() + lse.values.sum()

    arrays = q.values, k.values, v.values
    values, grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2)), static_argnums=3)(*arrays, None)
    expected, expected_grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2)), static_argnums=3)(*arrays, "jax.dense")
    assert abs(values - expected) <= 1e-4 * abs(expected)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=2e-5 * abs(expected_grad).max())


def test_a_tile_visits_only_the_blocks_that_its_queries_see():
    k_lo = jnp.array([0, 0, 4, 4, 12, 12, 12, 12])
    k_hi = jnp.array([1, 2, 5, 6, 12, 12, 12, 12])
    *_, first, stop = block_range(k_lo, k_hi, 64, 4)
    assert (first.tolist(), stop.tolist()) == ([0], [2])
    *_, first, stop = block_range(jnp.full(3, 8), jnp.full(3, 8), 64, 4)
    assert stop[0] <= first[0]


def test_memory_grows_with_the_total_length_alone():
    def scratch(total):
        arr = draw((total,))
        step = jax.jit(jax.grad(lambda v: scree.varlen_attention(*(arr.with_values(v),) * 3).values.sum()))
        return step.lower(arr.values).compile().memory_analysis().temp_size_in_bytes

    assert scratch(4096) <= 4.5 * scratch(1024)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("backend", [None, "jax.dense"])
def test_what_is_not_finite_spoils_its_row_and_no_other(bad, backend):
    arr = draw((3, 4, 2))
    rows = np.repeat([False, True, False], [3, 4, 2])

    def attend(q, k, v):
        return scree.varlen_attention(*(arr.with_values(x) for x in (q, k, v)), causal=True, backend=backend).values

    clean = (arr.values,) * 3
    for i in range(3):
        spoiled = [x.at[4, 0, 0].set(bad) if i == j else x for j, x in enumerate(clean)]
        out, pull = jax.vjp(attend, *spoiled)
        assert np.isnan(out[rows, 0]).all()
        np.testing.assert_array_equal(out[~rows], attend(*clean)[~rows])
        for grad in pull(jnp.ones_like(out)):
            assert np.isfinite(grad[~rows]).all()


@pytest.mark.parametrize("backend", [None, "jax.dense"])
def test_a_cotangent_that_is_not_finite_makes_its_row_of_the_gradient_nan(backend):
    # Loss scaling looks for it: a gradient that was cleaned would be taken for a good one.
    arr = draw((3, 4, 2))
    rows = np.repeat([False, True, False], [3, 4, 2])
    out, pull = jax.vjp(
        lambda *x: scree.varlen_attention(*(arr.with_values(y) for y in x), backend=backend).values, *(arr.values,) * 3
    )
    expected = pull(jnp.ones_like(out))
    for grad, clean in zip(pull(jnp.ones_like(out).at[5, 1, 2].set(jnp.inf)), expected, strict=True):
        assert np.isnan(grad[rows, 1]).any(axis=-1).all()
        np.testing.assert_array_equal(grad[~rows], clean[~rows])


def test_dense_has_a_hessian():
    arr = draw((2, 3), heads=1, dim=2)

    def f(values):
        x = arr.with_values(values)
        return (scree.varlen_attention(x, x, x, causal=True, softcap=2.0, backend="jax.dense").values ** 3).sum()

    hessian = np.asarray(jax.hessian(f)(arr.values)).reshape(10, 10)
    step = 1e-2
    basis = jnp.eye(10).reshape(10, *arr.values.shape) * step
    columns = [(jax.grad(f)(arr.values + d) - jax.grad(f)(arr.values - d)).ravel() / (2 * step) for d in basis]
    np.testing.assert_allclose(hessian, np.array(columns), rtol=0, atol=5e-3 * abs(hessian).max())
    np.testing.assert_allclose(hessian, hessian.T, rtol=0, atol=1e-5 * abs(hessian).max())


def test_dense_runs_only_where_it_is_named():
    arr = draw((2, 3))
    explained = scree.explain("varlen_attention", arr, arr, arr)
    assert explained.chosen == "jax"
    assert ("jax.dense", None) in explained.candidates
    assert scree.explain("varlen_attention", arr, arr, arr, backend="dense").chosen == "jax.dense"
