"""How often ops are compiled: once for a shape, whatever the rows."""

import jax
import numpy as np
import pytest

import scree
from scree_jax import cumsum, geometry, norms, padding, reductions, rope, softmax
from scree_jax.attention import entry

PROGRAMS = [
    *(getattr(reductions, f"row_{name}") for name in ("sum", "mean", "max", "min", "logsumexp")),
    *(reductions.repeat, softmax.softmax, cumsum.cumsum, norms.layernorm, norms.rmsnorm, rope.rope),
    *(padding.to_padded, padding.from_padded, geometry.segment_ids, geometry.positions, entry._attention),
]


def batch_of(arr, lengths):
    return scree.from_lengths(arr.values, lengths)


def test_one_program_serves_all_rows_of_a_shape(op, arr):
    op(batch_of(arr, [3, 0, 5, 1, 70]))
    compiled = [program._cache_size() for program in PROGRAMS]
    for lengths in ([79, 0, 0, 0, 0], [10, 20, 30, 5, 14]):
        op(batch_of(arr, lengths))
    assert [program._cache_size() for program in PROGRAMS] == compiled


def test_halves_and_float32_share_a_program(arr):
    before = reductions.row_mean._cache_size()
    for dtype in ("float32", "float16", "bfloat16"):
        scree.varlen_mean(batch_of(arr, [70, 2, 3, 4, 0]).astype(dtype), empty=-1)
    assert reductions.row_mean._cache_size() == before + 1


@pytest.mark.parametrize("empty", ["nan", float("nan"), np.float32("nan")])
def test_nan_for_empty_rows_compiles_once(arr, empty):
    scree.varlen_sum(arr, empty="nan")
    before = reductions.row_sum._cache_size()
    for _ in range(2):
        assert np.isnan(scree.varlen_sum(arr, empty=empty)[1]).all()
    assert reductions.row_sum._cache_size() == before


def test_2000_bucketed_batches_compile_a_handful_of_times():
    scree.preload("jax")
    rng = np.random.default_rng(0)
    pooled = jax.jit(scree.varlen_sum)
    live = slots = 0
    for _ in range(2000):
        lengths = rng.lognormal(4.5, 0.8, rng.integers(16, 65)).astype(int) + 1
        batch = scree.from_lengths(np.ones(lengths.sum(), np.float32), lengths)
        bucketed = scree.bucket(batch)
        sums = pooled(bucketed)
        live, slots = live + batch.total_length, slots + bucketed.total_length
    assert np.asarray(sums)[: len(lengths)].tolist() == lengths.tolist()
    assert pooled._cache_size() <= 40
    assert slots / live <= 1.1
