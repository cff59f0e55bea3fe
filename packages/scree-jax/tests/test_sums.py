"""Sums over rows that are longer than what the conformance suite has."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scree
from scree_jax.segments import STRETCH

RNG = np.random.default_rng(0)


def rows_of(lengths, dead=0):
    values = RNG.standard_normal((sum(lengths) + dead, 2)).astype(np.float32)
    offsets = jnp.asarray(np.cumsum([0, *lengths]).astype(np.int32))
    return scree.Array(jnp.asarray(values), offsets, tail=True)


LENGTHS = {
    "ends_at_stretches": (STRETCH, 2 * STRETCH, STRETCH),
    "ends_beside_stretches": (STRETCH - 1, STRETCH + 1, 1, 2 * STRETCH),
    "empty_rows_between": (0, 100, 0, 0, 28, 0, 300, 0),
    "short_rows": (1, 2) * 200,
}


@pytest.mark.parametrize("dead", [0, 100])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_every_element_is_counted_once(lengths, dead):
    arr = rows_of(lengths, dead)
    sums, pull = jax.vjp(lambda v: scree.varlen_sum(arr.with_values(v)), arr.values)
    host, bounds = np.asarray(arr.values, np.float64), np.cumsum([0, *lengths])
    exact = [host[start:stop].sum(axis=0) for start, stop in pairwise(bounds)]
    np.testing.assert_allclose(sums, exact, rtol=0, atol=2e-5)
    cotangent = RNG.standard_normal(sums.shape).astype(np.float32)
    (grad,) = pull(jnp.asarray(cotangent))
    np.testing.assert_array_equal(grad[: bounds[-1]], np.repeat(cotangent, lengths, axis=0))
    assert not grad[bounds[-1] :].any()


def test_a_million_tenths_are_a_hundred_thousand():
    # One after the other in float32 they are 100,958.
    arr = scree.from_lengths(jnp.full(1_000_003, 0.1), [3, 1_000_000])
    assert abs(scree.varlen_sum(arr)[1] - 1e5) <= 0.5
    assert abs(scree.varlen_cumsum(arr).values[-1] - 1e5) <= 0.01
    grad = jax.grad(lambda dense: scree.repeat_rows(dense, like=arr).values.sum() * 0.1)(jnp.ones(2))
    assert abs(grad[1] - 1e5) <= 0.5
