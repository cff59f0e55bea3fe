"""Ops compute nothing when called, unless they say so."""

import mlx.core as mx
import pytest

import scree


def unusable(*shape):
    """Return an array that raises an error as soon as it is evaluated."""
    singular = mx.linalg.inv(mx.zeros((2, 2)), stream=mx.cpu)
    return mx.zeros(shape) + singular[0, 0]


def test_such_an_array_raises_when_evaluated():
    with pytest.raises(RuntimeError, match="Inverse"):
        mx.eval(unusable(3))


OPS = {
    "segment_ids": lambda x: x.segment_ids,
    "positions": lambda x: x.positions,
    "softmax": scree.varlen_softmax,
    "sum": scree.varlen_sum,
    "mean": scree.varlen_mean,
    "max": scree.varlen_max,
    "min": scree.varlen_min,
    "logsumexp": scree.varlen_logsumexp,
    "cumsum": scree.varlen_cumsum,
    "rmsnorm": scree.varlen_rmsnorm,
    "layernorm": scree.varlen_layernorm,
    "rope": lambda x: scree.varlen_rope(x, mx.zeros((4, 1)), mx.zeros((4, 1))),
    "repeat_rows": lambda x: scree.repeat_rows(unusable(3), x),
    "to_padded": scree.to_padded,
    "from_padded": lambda x: scree.from_padded(unusable(2, 2), mx.array([[True, False], [True, True]])),
    "from_padded with a capacity": lambda x: scree.from_padded(x.values, unusable(5, 2) > 0, capacity=10),
    "pack": lambda x: scree.pack([x.values, x.values]),
    "rows": lambda x: x[[2, 0]],
    "unpack": scree.unpack,
    "bucket": scree.bucket,
}


@pytest.mark.parametrize("name", OPS)
def test_ops_evaluate_no_values(name):
    OPS[name](scree.from_lengths(unusable(5, 2), [2, 0, 3]))


HOST = {"cumsum", "rows", "unpack"}
"""Ops that read offsets which only the device knows."""


@pytest.mark.parametrize("name", sorted(OPS.keys() - HOST))
def test_ops_evaluate_no_offsets(name):
    offsets = unusable(4).astype(mx.int32)
    OPS[name](scree.Array(unusable(5, 2), offsets, max_length=3))


def test_attention_on_rectangles_evaluates_no_values(monkeypatch):
    monkeypatch.setattr("scree_mlx.varlen_attention.blas_is_faster", lambda: False)
    x = scree.from_lengths(unusable(5, 2, 4), [2, 0, 3])
    scree.varlen_attention(x, x, x, causal=True)
    scree.varlen_attention(x, x, x, window=(1, 1), softcap=1.0, return_lse=True)


def test_offsets_are_read_once():
    arr = scree.Array(mx.ones((5, 2)), mx.array([0, 2, 2, 5]))
    first = arr.backend.host_offsets(arr.layout)
    assert arr.backend.host_offsets((arr * 2).layout) is first
