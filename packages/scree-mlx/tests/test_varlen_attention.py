"""Attention's ways: through NumPy, on rectangles, and what follows from the choice."""

import mlx.core as mx
import numpy as np
import pytest

import scree
import scree_mlx
from scree_mlx import varlen_attention


@pytest.fixture
def x():
    return scree.from_lengths(mx.random.normal((6, 2, 8), key=mx.random.key(0)), [2, 0, 4])


@pytest.fixture
def on_rectangles(monkeypatch):
    monkeypatch.setattr(varlen_attention, "blas_is_faster", lambda: False)


needs_blas = pytest.mark.skipif(not varlen_attention.blas_is_faster(), reason="NumPy isn't used on this device")


def loss(x, **options):
    return (scree.varlen_attention(x, x, x, causal=True, **options).values ** 2).sum()


def test_the_way_is_chosen_by_platform_and_device(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    assert varlen_attention.blas_is_faster()
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    assert not varlen_attention.blas_is_faster()
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    assert not varlen_attention.blas_is_faster()


@needs_blas
def test_numpy_computes_where_it_is_faster(x, monkeypatch):
    calls = []
    numpy_attention = scree_mlx.attention_on_host.varlen_attention
    monkeypatch.setattr(
        "scree_mlx.attention_on_host.varlen_attention", lambda *a, **k: calls.append(1) or numpy_attention(*a, **k)
    )
    scree_mlx.grad(loss)(x)
    assert calls
    calls.clear()
    mx.eval(mx.compile(lambda v: loss(x.with_values(v)))(x.values))
    assert not calls


@pytest.mark.parametrize("options", [{}, {"softcap": 2.0}, {"window": (1, 0)}], ids=str)
def test_both_ways_agree(x, options, request):
    value, found = scree_mlx.value_and_grad(lambda x: loss(x, **options))(x)
    request.getfixturevalue("on_rectangles")
    expected, wanted = scree_mlx.value_and_grad(lambda x: loss(x, **options))(x)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-5)


def hessian_times_ones(x):
    first = scree_mlx.grad(loss)
    return scree_mlx.grad(lambda x: first(x).values.sum())(x).values


def test_second_derivatives_agree(x, request):
    through_numpy = hessian_times_ones(x)
    request.getfixturevalue("on_rectangles")
    np.testing.assert_allclose(through_numpy, hessian_times_ones(x), atol=1e-4)


def test_forward_mode_agrees_with_the_gradient(x):
    direction = mx.random.normal(x.values.shape, key=mx.random.key(1))
    _, (slope,) = mx.jvp(lambda v: loss(x.with_values(v)), [x.values], [direction])
    expected = (scree_mlx.grad(loss)(x).values * direction).sum()
    assert slope.item() == pytest.approx(expected.item(), rel=1e-4)


def test_cotangents_may_be_mapped(x):
    cotangents = mx.random.normal((3, *x.values.shape), key=mx.random.key(1))

    def pull(d):
        return mx.vjp(lambda v: [scree.varlen_attention(x, x, x.with_values(v)).values], [x.values], [d])[1][0]

    found = mx.vmap(pull)(cotangents)
    for i in range(3):
        np.testing.assert_allclose(found[i], pull(cotangents[i]), atol=1e-6)


def test_other_rows_of_an_empty_row_see_nothing_of_nan(on_rectangles):
    # Compiled, the empty row is on the rectangle too.
    q = scree.from_lengths(mx.ones((3, 1, 4)), [2, 1])
    k = scree.from_lengths(mx.full((2, 1, 4), np.nan), [0, 2])

    def first_row(q, k):
        return scree.varlen_attention(q, k, k).values[:2].sum()

    for attend in (first_row, scree_mlx.compile(first_row)):
        value, (by_q, _) = scree_mlx.value_and_grad(attend, argnums=(0, 1))(q, k)
        assert value.item() == 0
        assert by_q.values[:2].tolist() == mx.zeros((2, 1, 4)).tolist()


def test_large_halves_do_not_overflow(x):
    large = x.with_values((x.values * 300).astype(mx.float16))
    for attend in (scree.varlen_attention, scree_mlx.compile(scree.varlen_attention)):
        assert mx.isfinite(attend(large, large, large).values).all().item()


def test_plans_are_kept_with_the_layout(x, on_rectangles):
    scree.varlen_attention(x, x, x)
    kept = len(x.layout._derived)
    scree.varlen_attention(x * 2, x, x)
    assert len(x.layout._derived) == kept
