"""The reference's normalisations, softmax and rope against scalar loops."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest

from scree_core import reference

OFFSETS = [0, 0, 3, 3, 4, 9, 9]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("with_weight", [False, True], ids=["no weight", "weight"])
@pytest.mark.parametrize("shape", [(9, 4), (9, 2, 4), (0, 4), (3, 1)], ids=str)
def test_layernorm_is_the_scalar_loop(shape, with_weight, with_bias):
    x = normal(*shape)
    weight = normal(shape[-1], seed=1) if with_weight else None
    bias = normal(shape[-1], seed=2) if with_bias else None
    out = reference.varlen_layernorm(np, x, weight, bias, eps=0.1)
    assert out.shape == shape
    for index in np.ndindex(*shape[:-1]):
        mean = sum(x[index]) / shape[-1]
        variance = sum((value - mean) ** 2 for value in x[index]) / shape[-1]
        for f, value in enumerate(x[index]):
            expected = (value - mean) / math.sqrt(variance + 0.1)
            expected = expected * (1 if weight is None else weight[f]) + (0 if bias is None else bias[f])
            assert out[index][f] == pytest.approx(expected, rel=1e-13, abs=1e-14)


@pytest.mark.parametrize("with_weight", [False, True], ids=["no weight", "weight"])
@pytest.mark.parametrize("shape", [(9, 4), (9, 2, 4), (0, 4), (3, 1)], ids=str)
def test_rmsnorm_is_the_scalar_loop(shape, with_weight):
    x = normal(*shape)
    weight = normal(shape[-1], seed=1) if with_weight else None
    out = reference.varlen_rmsnorm(np, x, weight, eps=0.1)
    assert out.shape == shape
    for index in np.ndindex(*shape[:-1]):
        rms = math.sqrt(sum(value**2 for value in x[index]) / shape[-1] + 0.1)
        for f, value in enumerate(x[index]):
            expected = value / rms * (1 if weight is None else weight[f])
            assert out[index][f] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("features", [(), (2,), (2, 3)], ids=str)
def test_softmax_is_the_scalar_loop(features):
    x = normal(9, *features)
    out = reference.varlen_softmax(np, x, OFFSETS)
    assert out.shape == x.shape
    for start, stop in reference.rows(OFFSETS):
        for f in np.ndindex(*features):
            exps = [math.exp(x[i][f]) for i in range(start, stop)]
            for i in range(start, stop):
                assert out[i][f] == pytest.approx(exps[i - start] / sum(exps), rel=1e-13)


def test_softmax_shifts_so_that_nothing_overflows():
    x = np.array([1e4, 1e4 - 1, -1e4, -1e4])
    expected = [1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0.5, 0.5]
    np.testing.assert_allclose(reference.varlen_softmax(np, x, [0, 2, 4]), expected, rtol=1e-13)


def test_softmax_of_nothing_but_minus_infinity_is_zero_and_beside_a_number_too():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 1.0], [-np.inf, 1.0]])
    out = reference.varlen_softmax(np, x, [0, 3])
    np.testing.assert_array_equal(out, [[0, 0], [0, 0.5], [0, 0.5]])
    (dx,) = reference.varlen_softmax_vjp(np, np.ones_like(x), x, [0, 3])
    np.testing.assert_array_equal(dx, np.zeros_like(x))


def test_softmax_of_plus_infinity_is_not_a_number_and_warns_of_nothing():
    x = np.array([[np.inf, 0.0], [1.0, 0.0]])
    out = reference.varlen_softmax(np, x, [0, 2])
    np.testing.assert_array_equal(out, [[np.nan, 0.5], [np.nan, 0.5]])


@pytest.mark.parametrize("offsets", [[0], [0, 0]])
def test_softmax_of_no_elements_has_their_shape_and_dtype(offsets):
    out = reference.varlen_softmax(np, np.ones((0, 2), np.float32), offsets)
    np.testing.assert_array_equal(out, np.ones((0, 2), np.float32), strict=True)


@pytest.mark.parametrize("r", [3, 2, 1])
@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "neighbours"])
@pytest.mark.parametrize("middle", [(), (2,), (2, 3)], ids=str)
def test_rope_turns_each_pair_as_a_complex_number(middle, interleaved, r):
    x = normal(9, *middle, 6)
    angles = normal(5, r, seed=1)
    positions = np.array([0, 1, 2, 0, 4, 4, 3, 2, 1], np.int32)
    out = reference.varlen_rope(np, x, np.cos(angles), np.sin(angles), positions, interleaved=interleaved)
    assert out.shape == x.shape
    for index in np.ndindex(9, *middle):
        np.testing.assert_array_equal(out[index][2 * r :], x[index][2 * r :])
        for i in range(r):
            first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + r)
            turned = complex(x[index][first], x[index][second]) * cmath.exp(1j * angles[positions[index[0]], i])
            assert out[index][first] == pytest.approx(turned.real, rel=1e-13, abs=1e-14)
            assert out[index][second] == pytest.approx(turned.imag, rel=1e-13, abs=1e-14)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("max_position", [0, 3])
def test_rope_of_no_elements_has_their_shape(interleaved, max_position):
    table = np.ones((max_position, 2))
    out = reference.varlen_rope(np, np.ones((0, 3, 4)), table, table, np.zeros(0, np.int32), interleaved=interleaved)
    assert out.shape == (0, 3, 4)
