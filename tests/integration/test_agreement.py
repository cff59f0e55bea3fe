"""The same code gives the same numbers on every library: each op against float64, and a transformer block."""

from __future__ import annotations

import math

import numpy as np
import pytest

import scree
from scree_core.backend import OPS

LENGTHS = (5, 0, 3, 17, 1)
TOTAL = sum(LENGTHS)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((TOTAL, 4, 8)).astype(np.float32)
WEIGHT = RNG.standard_normal(8).astype(np.float32)
ANGLES = np.arange(32)[:, None] / 10.0 ** np.arange(4)
TABLES = np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)

CALLS = {
    "pack": lambda a, x: scree.pack(scree.unpack(x)).values,
    "take_rows": lambda a, x: x[[3, 0, 3]].values,
    "to_padded": lambda a, x: scree.to_padded(x, "left")[0],
    "from_padded": lambda a, x: scree.from_padded(*scree.to_padded(x)).values,
    "segment_ids": lambda a, x: x.segment_ids,
    "positions": lambda a, x: x.positions,
    "repeat_rows": lambda a, x: scree.repeat_rows(scree.varlen_sum(x), x).values,
    "varlen_attention": lambda a, x: scree.varlen_attention(x, x, x, causal=True, window=(4, 0)).values,
    "varlen_layernorm": lambda a, x: scree.varlen_layernorm(x, a(WEIGHT), a(WEIGHT)).values,
    "varlen_rmsnorm": lambda a, x: scree.varlen_rmsnorm(x, a(WEIGHT)).values,
    "varlen_softmax": lambda a, x: scree.varlen_softmax(x).values,
    "varlen_rope": lambda a, x: scree.varlen_rope(x, a(TABLES[0]), a(TABLES[1])).values,
    "varlen_sum": lambda a, x: scree.varlen_sum(x),
    "varlen_mean": lambda a, x: scree.varlen_mean(x),
    "varlen_max": lambda a, x: scree.varlen_max(x, empty=0),
    "varlen_min": lambda a, x: scree.varlen_min(x, empty=0),
    "varlen_logsumexp": lambda a, x: scree.varlen_logsumexp(x, empty=0),
    "varlen_cumsum": lambda a, x: scree.varlen_cumsum(x).values,
    "varlen_cross_entropy": lambda a, x: scree.varlen_cross_entropy(
        x.with_values(x.values.reshape(TOTAL, -1)), x.positions
    ),
}


def test_every_op_is_compared():
    assert set(CALLS) == set(OPS)


@pytest.mark.parametrize("op", CALLS)
def test_ops_agree(one, op):
    exact = CALLS[op](lambda a: a.astype(np.float64), scree.from_lengths(X.astype(np.float64), LENGTHS))
    got = one.numbers(CALLS[op](one.array, scree.from_lengths(one.array(X), LENGTHS)))
    assert np.abs(got - exact).max() <= 16 * np.finfo(np.float32).eps * max(1, np.abs(exact).max())


def block(x, norm, qkv, out, tables):
    """Return a pre-norm attention block's output; the one text for every library."""
    normed = scree.varlen_rmsnorm(x, norm)
    joined = normed.values @ qkv
    q, k, v = (scree.varlen_rope(x.with_values(joined[:, i : i + 32].reshape(-1, 4, 8)), *tables) for i in (0, 32, 64))
    attended = scree.varlen_attention(q, k, v, causal=True, scale=1 / math.sqrt(8))
    return x + attended.values.reshape(-1, 32) @ out


def test_a_transformer_block_agrees(one):
    weights = RNG.standard_normal((32, 96)) / 6, RNG.standard_normal((32, 32)) / 6
    hosts = [X.reshape(TOTAL, 32), RNG.standard_normal(32), *weights]

    def run(array, dtype):
        x, norm, qkv, out = (array(host.astype(dtype)) for host in hosts)
        tables = tuple(array(table.astype(dtype)) for table in TABLES)
        return block(scree.from_lengths(x, LENGTHS), norm, qkv, out, tables).values

    exact = run(np.asarray, np.float64)
    assert np.abs(one.numbers(run(one.array, np.float32)) - exact).max() <= 1e-5


def test_two_libraries_in_one_call_are_refused(two):
    _, second = two
    x, y = (scree.from_lengths(library.array(X), LENGTHS) for library in two)
    for call in (
        lambda: scree.varlen_attention(x, y, y),
        lambda: scree.varlen_rmsnorm(x, second.array(WEIGHT)),
        lambda: x + y,
        lambda: scree.pack([x.values, y.values]),
        lambda: scree.concat([x, y]),
        lambda: scree.repeat_rows(second.array(np.zeros(len(LENGTHS), np.float32)), like=x),
        lambda: scree.Array(x.values, y.offsets),
        lambda: x.with_values(y.values),
        lambda: scree.from_padded(scree.to_padded(x)[0], scree.to_padded(y)[1]),
    ):
        with pytest.raises(scree.ScreeError, match=r"librar(y|ies)"):
            call()
