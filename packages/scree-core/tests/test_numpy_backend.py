"""What NumPy's backend promises beyond the suite: no copies, no slow paths, no writing to what is shared."""

import sys

import ml_dtypes
import numpy as np
import pytest

import scree_core as scree
from scree_core.numpy_backend import NumpyBackend, rows
from scree_core.testing.truth import ReferenceBackend

BACKEND = NumpyBackend()


def test_it_owns_numpy_arrays_and_nothing_else():
    assert BACKEND.owns(np.zeros(1))
    assert BACKEND.owns(np.zeros(1).view(np.recarray))
    assert not any(BACKEND.owns(x) for x in (np.ma.zeros(1), 1.0, [1.0], np.float64(1), None, np.zeros))


def test_going_to_numpy_and_back_copies_nothing():
    a = np.zeros(3)
    assert BACKEND.from_numpy(a) is BACKEND.to_numpy(a) is BACKEND.host_view(a) is a


def test_it_does_not_differentiate():
    assert not BACKEND.differentiates
    with pytest.raises(scree.UnsupportedError, match="backend 'numpy' does not differentiate: NumpyBackend has no vjp"):
        BACKEND.vjp(lambda x: (x,), (np.zeros(1),), (np.zeros(1),))


@pytest.mark.parametrize(("name", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16), ("bool", bool)])
def test_dtypes_have_names(name, dtype):
    assert BACKEND.dtype(name) == np.dtype(dtype)
    assert BACKEND.dtype_name(np.zeros(1, dtype)) == name


def test_a_layout_made_from_lengths_knows_everything_at_once():
    layout = scree.from_lengths(np.zeros(5), [2, 0, 3]).layout
    assert layout.host is layout.offsets
    assert (layout.total, layout.max_length, layout.min_length) == (5, 3, 0)


@pytest.mark.parametrize("per_row", [1, 400])
@pytest.mark.parametrize("op", ["varlen_sum", "varlen_mean", "varlen_max", "varlen_min", "varlen_logsumexp"])
def test_small_and_large_rows_reduce_alike(op, per_row):
    """On either side of the size from which rows are walked one by one."""
    x = scree.from_lengths(np.random.default_rng(0).standard_normal((6, per_row)), [1, 0, 2, 3])
    assert (per_row > rows.LOOP_FROM) == (x.values.size >= rows.LOOP_FROM * 3)
    got = getattr(scree, op)(x)
    with scree.registry.installed_for(np.ndarray, ReferenceBackend()):
        np.testing.assert_allclose(got, getattr(scree, op)(x), rtol=1e-12)


def python_calls(run):
    count = 0

    def note(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    run()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("op", ["varlen_sum", "varlen_mean", "varlen_max", "varlen_min", "varlen_softmax"])
def test_many_small_rows_cost_no_python_each(op):
    def calls(times):
        x = scree.from_lengths(np.ones((6 * times, 2)), [1, 2, 3] * times)
        return python_calls(lambda: getattr(scree, op)(x))

    assert calls(1000) == calls(2)


@pytest.mark.parametrize("op", ["varlen_rmsnorm", "varlen_softmax", "varlen_cumsum", "varlen_sum", "varlen_mean"])
def test_halves_are_added_up_in_float32(op):
    """2048 ones: a float16 sum stops at 2048, a bfloat16 one at 256."""
    for dtype in ("float16", "bfloat16"):
        x = scree.from_lengths(np.ones((4096, 1)), [4096]).astype(dtype)
        got = getattr(scree, op)(x)
        got = got.values if isinstance(got, scree.Array) else got
        assert got.dtype == x.dtype
        last = {"varlen_sum": 4096, "varlen_cumsum": 4096, "varlen_softmax": 1 / 4096}.get(op, 1)
        assert float(got[-1, 0]) == pytest.approx(last, rel=1e-2)


def test_attention_of_more_rows_than_a_block_is_that_of_the_reference():
    rng = np.random.default_rng(0)
    q, k = (
        scree.from_lengths(rng.standard_normal((n, 2, 4)), lengths)
        for n, lengths in ((300, [260, 40]), (150, [20, 130]))
    )
    options = {"causal": True, "window": (50, 0), "return_lse": True}
    out, lse = scree.varlen_attention(q, k, k, **options)
    with scree.registry.installed_for(np.ndarray, ReferenceBackend()):
        want, want_lse = scree.varlen_attention(q, k, k, **options)
    np.testing.assert_allclose(out.values, want.values, atol=1e-12)
    np.testing.assert_allclose(lse.values, want_lse.values, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_rows_of_nothing_but_minus_infinity_warn_of_nothing():
    x = scree.from_lengths(np.full(3, -np.inf), [1, 0, 2])
    assert scree.varlen_softmax(x).values.tolist() == [0, 0, 0]
    assert scree.varlen_logsumexp(x).tolist() == [-np.inf] * 3
