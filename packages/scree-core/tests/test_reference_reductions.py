"""The reference's reductions and running sum against scalar loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scree_core import reference

OFFSETS = [0, 0, 3, 3, 4, 9, 9]
SCALAR = {
    "varlen_sum": math.fsum,
    "varlen_mean": lambda row: math.fsum(row) / len(row),
    "varlen_max": max,
    "varlen_min": min,
    "varlen_logsumexp": lambda row: math.log(math.fsum(math.exp(value) for value in row)),
}
INTEGERS = ["bool", "int8", "uint8", "int16", "int32", "int64"]


def ties(dtype=np.float64):
    return np.array([[2, 1], [2, 0], [1, 1], [5, -1]], dtype)


@pytest.mark.parametrize("features", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("op", SCALAR)
def test_a_reduction_is_the_scalar_loop(op, features):
    x = np.random.default_rng(0).normal(size=(9, *features))
    out = getattr(reference, op)(np, x, OFFSETS, -7.5)
    assert out.shape == (6, *features)
    for r, (start, stop) in enumerate(reference.rows(OFFSETS)):
        for f in np.ndindex(*features):
            expected = SCALAR[op]([x[i][f] for i in range(start, stop)]) if start < stop else -7.5
            assert out[r][f] == pytest.approx(expected, rel=1e-13, abs=1e-14)


@pytest.mark.parametrize("op", SCALAR)
@pytest.mark.parametrize("empty", [0.0, math.nan, math.inf, -math.inf])
def test_an_empty_row_gives_what_empty_says(op, empty):
    for features in [(), (2,)]:
        out = getattr(reference, op)(np, np.ones((0, *features), np.float32), [0, 0, 0], empty)
        np.testing.assert_array_equal(out, np.full((2, *features), empty, np.float32), strict=True)


@pytest.mark.parametrize("op", SCALAR)
def test_a_batch_of_none_reduces_to_none(op):
    out = getattr(reference, op)(np, np.ones((0, 2), np.float32), [0], 0.0)
    np.testing.assert_array_equal(out, np.ones((0, 2), np.float32), strict=True)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("offsets", [[0, 0, 3, 4], [0], [0, 0]])
def test_integers_and_bools_are_summed_in_numpys_integer(dtype, offsets):
    x = ties("int8")[: offsets[-1]].astype(dtype)
    total = np.sum(x, axis=0).dtype
    expected = [[int(x[a:b, f].astype(object).sum()) for f in (0, 1)] for a, b in reference.rows(offsets)]
    expected = np.array(expected, total).reshape(len(offsets) - 1, 2)
    np.testing.assert_array_equal(reference.varlen_sum(np, x, offsets, 0), expected, strict=True)
    running = [np.cumsum(x[a:b], axis=0) for a, b in reference.rows(offsets)]
    expected = np.concatenate([np.zeros((0, 2), total), *running])
    np.testing.assert_array_equal(reference.varlen_cumsum(np, x, offsets), expected, strict=True)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(("op", "best"), [("varlen_max", max), ("varlen_min", min)])
def test_the_extremes_of_integers_keep_their_dtype(op, best, dtype):
    x = ties("int8").astype(dtype)
    empty = np.ones((), dtype).item()
    out = getattr(reference, op)(np, x, [0, 0, 3, 4], empty)
    expected = [[empty, empty], [best(x[:3, 0]), best(x[:3, 1])], list(x[3])]
    np.testing.assert_array_equal(out, np.array(expected, dtype), strict=True)


@pytest.mark.parametrize("op", ["varlen_max", "varlen_min"])
def test_a_number_that_is_none_is_the_extreme(op):
    x = np.array([1.0, np.nan, 2.0, 3.0])
    out = getattr(reference, op)(np, x, [0, 3, 4], 0.0)
    np.testing.assert_array_equal(out, [np.nan, 3.0])
    (dx,) = getattr(reference, op + "_vjp")(np, np.ones(2), x, [0, 3, 4], 0.0)
    np.testing.assert_array_equal(dx, [0.0, 0.0, 0.0, 1.0])


def test_logsumexp_of_infinities_is_the_largest_of_them():
    inf = np.inf
    x = np.array([[-inf, -inf, inf, inf], [-inf, 1e4, 1e4, inf], [-inf, 1e4, 0, -inf]])
    out = reference.varlen_logsumexp(np, x, [0, 3], 0.0)
    np.testing.assert_allclose(out, [[-inf, 1e4 + math.log(2), inf, inf]], rtol=1e-13)
    (dx,) = reference.varlen_logsumexp_vjp(np, np.ones((1, 4)), x, [0, 3], 0.0)
    np.testing.assert_allclose(dx[:, :2], [[0, 0], [0, 0.5], [0, 0.5]], rtol=1e-13)


@pytest.mark.parametrize("features", [(), (2, 3)], ids=str)
@pytest.mark.parametrize("offsets", [OFFSETS, [0], [0, 0]], ids=["mixed", "none", "all empty"])
def test_the_running_sum_starts_anew_in_each_row(offsets, features):
    x = np.random.default_rng(0).normal(size=(offsets[-1], *features)).astype(np.float32)
    out = reference.varlen_cumsum(np, x, offsets)
    assert out.dtype == np.float32
    assert out.shape == x.shape
    for start, stop in reference.rows(offsets):
        for i in range(start, stop):
            np.testing.assert_allclose(out[i], x[start : i + 1].astype(np.float64).sum(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("varlen_max", [[3, 2], [3, 0], [0, 2], [8, 9]]),
        ("varlen_min", [[0, 0], [0, 4], [6, 0], [8, 9]]),
    ],
)
def test_ties_share_the_cotangent_equally(op, expected):
    d_out = np.array([[100, 100], [6, 4], [100, 100], [8, 9]], np.float32)
    (dx,) = getattr(reference, op + "_vjp")(np, d_out, ties(np.float32), [0, 0, 3, 3, 4], 0.0)
    np.testing.assert_array_equal(dx, np.array(expected, np.float32), strict=True)


@pytest.mark.parametrize("op", SCALAR)
def test_the_cotangent_of_an_empty_row_goes_nowhere(op):
    x = np.array([1.0, 2.0, 4.0])
    d_out = np.array([np.nan, 1.0, np.nan, 1.0, np.nan])
    (dx,) = getattr(reference, op + "_vjp")(np, d_out, x, [0, 0, 2, 2, 3, 3], 0.0)
    assert np.isfinite(dx).all()
    (dx,) = getattr(reference, op + "_vjp")(np, d_out[:1], x[:0], [0, 0], 0.0)
    assert dx.shape == (0,)
