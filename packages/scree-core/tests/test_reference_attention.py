"""The reference's attention against one scalar loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from scree_core import reference

SELF = ([0, 0, 3, 3, 4, 9, 9],) * 2
CROSS = ([0, 0, 3, 3, 4, 9, 9], [0, 2, 2, 5, 11, 12, 12])  # every mix of fewer, more and no keys
PLAIN = {"causal": False, "scale": 0.5, "window": (-1, -1), "softcap": None, "sinks": None}


def inputs(q_offsets, k_offsets, heads=4, kv_heads=2, head_dim=3, head_dim_v=5, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [
        (q_offsets[-1], heads, head_dim),
        (k_offsets[-1], kv_heads, head_dim),
        (k_offsets[-1], kv_heads, head_dim_v),
    ]
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)


def attend_one_by_one(q, k, v, q_offsets, k_offsets, *, causal, scale, window, softcap, sinks):
    heads, group = q.shape[1], q.shape[1] // k.shape[1]
    out = np.zeros((q.shape[0], heads, v.shape[2]))
    lse = np.full((q.shape[0], heads), -np.inf)
    for r in range(len(q_offsets) - 1):
        lq, lk = q_offsets[r + 1] - q_offsets[r], k_offsets[r + 1] - k_offsets[r]
        for i, h in itertools.product(range(lq), range(heads)):
            at, query, exps = i + lk - lq, q_offsets[r] + i, {}
            for j in range(lk):
                if causal and j > at:
                    continue
                if (window[0] >= 0 and j < at - window[0]) or (window[1] >= 0 and j > at + window[1]):
                    continue
                key = k_offsets[r] + j
                score = scale * sum(float(a) * float(b) for a, b in zip(q[query, h], k[key, h // group], strict=True))
                if softcap is not None:
                    score = softcap * math.tanh(score / softcap)
                exps[key] = math.exp(score)
            if exps:
                lse[query, h] = math.log(sum(exps.values()))
                total = sum(exps.values()) + (0.0 if sinks is None else math.exp(sinks[h]))
                for key, value in exps.items():
                    out[query, h] += value / total * v[key, h // group]
    return out, lse


@pytest.mark.parametrize("with_sinks", [False, True], ids=["no sinks", "sinks"])
@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("window", [(-1, -1), (0, 0), (1, -1), (-1, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("q_offsets", "k_offsets"), [SELF, CROSS], ids=["self", "cross"])
def test_attention_is_the_scalar_loop(q_offsets, k_offsets, causal, window, softcap, with_sinks):
    q, k, v = inputs(q_offsets, k_offsets)
    options = {
        "causal": causal,
        "scale": 0.6,
        "window": window,
        "softcap": softcap,
        "sinks": np.array([-1.0, 0.0, 0.5, 2.0]) if with_sinks else None,
    }
    out, lse = reference.varlen_attention(np, q, k, v, q_offsets, k_offsets, **options)
    expected_out, expected_lse = attend_one_by_one(q, k, v, q_offsets, k_offsets, **options)
    np.testing.assert_allclose(out, expected_out, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 4), (6, 2), (6, 1)])
def test_query_heads_share_the_key_heads_of_their_group(heads, kv_heads):
    q, k, v = inputs(*CROSS, heads=heads, kv_heads=kv_heads)
    out, lse = reference.varlen_attention(np, q, k, v, *CROSS, **PLAIN)
    expected_out, expected_lse = attend_one_by_one(q, k, v, *CROSS, **PLAIN)
    np.testing.assert_allclose(out, expected_out, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("with_sinks", [False, True], ids=["no sinks", "sinks"])
def test_a_query_that_sees_nothing_gives_zeros_and_minus_infinity(with_sinks):
    q, k, v = inputs([0, 3], [0, 1])
    options = {**PLAIN, "causal": True, "sinks": np.zeros(4) if with_sinks else None}
    out, lse = reference.varlen_attention(np, q, k, v, [0, 3], [0, 1], **options)
    assert (out[:2] == 0).all()
    assert (lse[:2] == -np.inf).all()
    assert np.isfinite(lse[2]).all()


@pytest.mark.parametrize(("q_offsets", "k_offsets"), [([0], [0]), ([0, 0], [0, 0]), ([0, 0], [0, 2]), ([0, 2], [0, 0])])
def test_attention_of_nothing_has_its_shape_and_dtype(q_offsets, k_offsets):
    q, k, v = inputs(q_offsets, k_offsets, dtype=np.float32)
    sinks = np.zeros(4, np.float32)
    out, lse = reference.varlen_attention(np, q, k, v, q_offsets, k_offsets, **{**PLAIN, "sinks": sinks})
    np.testing.assert_array_equal(out, np.zeros((q_offsets[-1], 4, 5), np.float32), strict=True)
    np.testing.assert_array_equal(lse, np.full((q_offsets[-1], 4), -np.inf, np.float32), strict=True)
    dq, dk, dv, d_sinks = reference.varlen_attention_vjp(
        np, out, np.zeros_like(lse), q, k, v, q_offsets, k_offsets, **{**PLAIN, "sinks": sinks}
    )
    for grad, primal in [(dq, q), (dk, k), (dv, v), (d_sinks, sinks)]:
        np.testing.assert_array_equal(grad, np.zeros_like(primal), strict=True)


@pytest.mark.parametrize("sink", [-1e4, 1e4])
def test_scores_and_sinks_far_from_zero_do_not_overflow(sink):
    q, k, v = inputs(*SELF)
    options = {**PLAIN, "scale": 1e3, "sinks": np.full(4, sink)}
    out, lse = reference.varlen_attention(np, q, k, v, *SELF, **options)
    grads = reference.varlen_attention_vjp(np, out, lse, q, k, v, *SELF, **options)
    for array in (out, lse, *grads):
        assert np.isfinite(array).all()
    if sink > 0:
        assert (out == 0).all()


def test_a_key_that_no_query_sees_gets_no_gradient():
    q, k, v = inputs([0, 1], [0, 4])
    options = {**PLAIN, "window": (1, 0)}
    out, lse = reference.varlen_attention(np, q, k, v, [0, 1], [0, 4], **options)
    _, dk, dv, d_sinks = reference.varlen_attention_vjp(np, out, lse, q, k, v, [0, 1], [0, 4], **options)
    assert (dk[:2] == 0).all()
    assert (dv[:2] == 0).all()
    assert dk[2:].all()
    assert dv[2:].all()
    assert d_sinks is None
