"""What happens under jit: no leaked tracers, no hidden transfers, and words where values are needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scree
from scree_jax.backend import JaxBackend

backend = JaxBackend()


@pytest.fixture
def arr():
    return scree.from_lengths(jnp.arange(5.0), [2, 0, 3])


@pytest.fixture
def no_leaks():
    with jax.checking_leaks():
        yield


def test_a_closed_over_array_keeps_no_tracer(arr, no_leaks):
    @jax.jit
    def f(x):
        return scree.varlen_softmax(arr.with_values(x)).values * arr.segment_ids + arr.positions

    inside = f(arr.values)
    assert not arr.layout._derived
    outside = scree.varlen_softmax(arr).values * arr.segment_ids + arr.positions
    assert arr.layout._derived
    np.testing.assert_array_equal(f(2 * arr.values - arr.values), inside)
    np.testing.assert_allclose(inside, outside, rtol=1e-6)


def test_a_traced_layout_keeps_nothing(arr, no_leaks):
    seen = []

    @jax.jit
    def f(a):
        ids = a.segment_ids
        seen.append(dict(a.layout._derived))
        return ids

    assert f(arr).tolist() == [0, 0, 2, 2, 2]
    assert seen == [{}]


def test_what_is_made_now_may_be_kept_outside_a_trace_alone(arr):
    def probe(x):
        seen.append((backend.may_cache(arr.offsets), backend.may_cache(x)))
        return x * 1.0

    for transform, expected in (
        (lambda f: f, (True, True)),
        (jax.jit, (False, False)),
        (jax.checkpoint, (False, False)),
        (jax.vmap, (True, False)),
    ):
        seen = []
        transform(probe)(arr.values)
        assert seen == [expected]


def test_an_array_made_inside_jit_from_plain_lengths_works_whole():
    @jax.jit
    def f(x):
        arr = scree.from_lengths(x, [2, 0, 3])
        return scree.varlen_sum(arr), scree.varlen_cumsum(arr).values

    sums, running = f(jnp.arange(5.0))
    assert sums.tolist() == [1, 0, 9]
    assert running.tolist() == [0, 1, 2, 5, 9]


def test_traced_offsets_say_what_to_do(arr):
    with pytest.raises(scree.UnsupportedError, match=r"traced array, int32\[4\].*for scree.to_padded pass max_length"):
        jax.jit(lambda a: scree.to_padded(a)[0])(arr)
    with pytest.raises(scree.UnsupportedError, match=r"traced array, bool\[3,4\].*for scree.from_padded pass capacity"):
        jax.jit(lambda mask: scree.from_padded(jnp.ones((3, 4)), mask).values)(jnp.ones((3, 4), bool))
    with pytest.raises(scree.UnsupportedError, match=r"traced array, int32\[4\].*close over an Array made outside"):
        jax.jit(lambda a: a[1])(arr)


def test_constructors_are_silent_under_a_transfer_guard(arr):
    values, offsets = arr.values, arr.offsets
    with jax.transfer_guard("disallow"):
        made = scree.Array(values, offsets, max_length=3)
        scree.from_cu_seqlens(values, offsets)
        from_lengths = scree.from_lengths(values, [2, 0, 3])
        made.with_values(values)
        assert repr(made)
        assert made.layout.host is None
        assert (from_lengths.max_length, from_lengths.min_length) == (3, 0)
        jax.jit(lambda a: a)(made)


def test_tracers_are_jax_arrays(arr):
    jax.jit(lambda a: None if a.backend.name == "jax" and a.device == "traced" else 1 / 0)(arr)
