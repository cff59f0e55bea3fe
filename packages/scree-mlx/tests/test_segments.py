"""Rows as segments, also of offsets that are wrong."""

import mlx.core as mx
import numpy as np
import pytest

import scree
from scree_mlx.segments import segment_extreme, segment_ids

BROKEN = {
    "beyond the end": [0, 3, 99],
    "negative": [0, -7, 5],
    "decreasing": [0, 4, 2],
    "late start": [3, 4, 5],
}
"""Offsets for 5 elements that no constructor has seen the values of."""


@pytest.mark.parametrize("offsets", BROKEN.values(), ids=BROKEN)
def test_row_numbers_stay_in_range(offsets):
    ids = segment_ids(mx.array(offsets), 5)
    assert 0 <= ids.min().item()
    assert ids.max().item() <= 2


@pytest.mark.parametrize("offsets", BROKEN.values(), ids=BROKEN)
def test_no_op_reads_or_writes_beyond_the_array(offsets):
    # Every element is 1, so anything else comes from foreign memory.
    arr = scree.Array(mx.ones((5, 3)), mx.array(offsets), max_length=4)
    for side in ("left", "right"):
        assert set(np.asarray(scree.to_padded(arr, side=side)[0]).ravel()) <= {0.0, 1.0}
    assert set(np.asarray(scree.varlen_max(arr, empty=0)).ravel()) <= {0.0, 1.0, -np.inf}
    assert np.asarray(scree.varlen_sum(arr)).max() <= 5
    assert np.isfinite(np.asarray(scree.varlen_softmax(arr).values)).all()
    counts = scree.varlen_sum(arr.astype("int32"))
    assert np.abs(np.asarray(counts)).max() <= 5
    grads = mx.grad(lambda v: scree.to_padded(arr.with_values(v))[0].sum())(arr.values)
    assert set(np.asarray(grads).ravel()) <= {0.0, 1.0}


def test_out_of_range_positions_are_clipped():
    arr = scree.from_lengths(mx.ones((2, 4)), [2])
    tables = mx.ones((3, 2))
    positions = mx.array([2, 10**6])
    out = scree.varlen_rope(arr, tables, mx.zeros((3, 2)), positions=positions)
    assert out.values.tolist() == arr.values.tolist()


@pytest.mark.parametrize("bad", [np.nan, -np.nan])
@pytest.mark.parametrize("op", [scree.varlen_max, scree.varlen_min])
def test_nan_wins_wherever_it_stands(op, bad):
    for values in ([bad, 1, 2], [1, bad, 2], [1, 2, bad]):
        found = op(scree.from_lengths(mx.array([*values, 7.0]), [3, 1]))
        assert np.array_equal(np.asarray(found), [np.nan, 7], equal_nan=True)


def test_infinities_are_extremes_like_others():
    arr = scree.from_lengths(mx.array([-np.inf, -np.inf, np.inf, 1.0]), [2, 2])
    assert scree.varlen_max(arr).tolist() == [-np.inf, np.inf]
    assert scree.varlen_min(arr).tolist() == [-np.inf, 1]


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int8", "uint8"])
def test_whole_numbers_compare_in_full(dtype):
    info = np.iinfo(dtype)
    values = scree.from_lengths(mx.array(np.array([info.max - 1, info.max, info.min], dtype)), [2, 1])
    assert scree.varlen_max(values).tolist() == [info.max, info.min]
    assert scree.varlen_min(values).tolist() == [info.max - 1, info.min]


def test_eight_bytes_are_scattered_on_the_cpu(monkeypatch):
    # GPUs can't; here only that the stream is taken.
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    found = segment_extreme(mx.array([3, 5], dtype=mx.int64), mx.array([0, 0]), 1, largest=True, identity=0)
    assert found.tolist() == [5]


def test_sums_of_whole_numbers_are_exact_beside_large_rows():
    arr = scree.from_lengths(mx.array([2**62, 2**62 - 1, 3, 4]), [2, 2])
    assert scree.varlen_sum(arr).tolist() == [2**63 - 1, 7]
    assert scree.varlen_cumsum(arr).values.tolist() == [2**62, 2**63 - 1, 3, 7]


def test_softmax_of_minus_infinity_has_no_nan_in_its_gradient():
    arr = scree.from_lengths(mx.array([-np.inf, -np.inf, 1.0]), [2, 1])
    found = mx.grad(lambda v: (scree.varlen_softmax(arr.with_values(v)).values * mx.array([1.0, 2.0, 3.0])).sum())
    assert found(arr.values).tolist() == [0, 0, 0]


def test_python_numbers_promote_nothing():
    half = scree.from_lengths(mx.ones((3, 2), dtype=mx.bfloat16), [1, 2])
    for op in (scree.varlen_softmax, scree.varlen_rmsnorm, scree.varlen_layernorm, scree.varlen_cumsum):
        assert op(half).dtype == mx.bfloat16
    for reduce in (scree.varlen_sum, scree.varlen_mean, scree.varlen_max, scree.varlen_min, scree.varlen_logsumexp):
        assert reduce(half, empty=2.5).dtype == mx.bfloat16
    assert scree.to_padded(half, fill_value=1.5)[0].dtype == mx.bfloat16
