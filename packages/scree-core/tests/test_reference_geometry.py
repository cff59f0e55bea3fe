"""The reference's integers against loops over rows."""

from __future__ import annotations

import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scree_core import reference

INT32_MAX = 2**31 - 1
lengths = st.lists(st.integers(0, 5), max_size=6)
derandomised = settings(derandomize=True, max_examples=150, deadline=None)


def offsets_of(row_lengths, dtype=np.int32):
    return np.cumsum([0, *row_lengths]).astype(dtype)


def test_rows_are_pairs_of_python_ints():
    pairs = list(reference.rows(np.array([0, 2, 2, 5], np.int32)))
    assert pairs == [(0, 2), (2, 2), (2, 5)]
    assert all(type(bound) is int for pair in pairs for bound in pair)


def test_rows_of_a_batch_of_none_are_none():
    assert list(reference.rows([0])) == []


@given(lengths, st.sampled_from([np.int32, np.int64]))
@derandomised
def test_segment_ids_and_positions_count_rows_and_elements(row_lengths, dtype):
    offsets = offsets_of(row_lengths, dtype)
    ids = reference.segment_ids(np, offsets, sum(row_lengths))
    positions = reference.positions(np, offsets, ids)
    expected = [(r, i) for r, length in enumerate(row_lengths) for i in range(length)]
    assert list(zip(ids.tolist(), positions.tolist(), strict=True)) == expected
    assert ids.dtype == positions.dtype == dtype


def test_elements_past_the_last_offset_belong_to_the_row_after_the_last():
    offsets = offsets_of([2, 1])
    assert reference.segment_ids(np, offsets, 5).tolist() == [0, 0, 1, 2, 2]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5),
    st.booleans(),
    st.integers(-1, 4),
    st.integers(-1, 4),
    st.sampled_from([np.int32, np.int64]),
)
@derandomised
def test_key_ranges_hold_exactly_the_visible_keys(row_lengths, causal, left, right, dtype):
    q_offsets = offsets_of([lq for lq, _ in row_lengths], dtype)
    k_offsets = offsets_of([lk for _, lk in row_lengths], dtype)
    ids = reference.segment_ids(np, q_offsets, int(q_offsets[-1]))
    k_lo, k_hi = reference.key_ranges(np, q_offsets, k_offsets, ids, causal=causal, window=(left, right))
    assert k_lo.dtype == k_hi.dtype == dtype
    assert k_lo.shape == k_hi.shape == ids.shape
    query = 0
    for r, (lq, lk) in enumerate(row_lengths):
        for i in range(lq):
            at = i + lk - lq
            visible = [
                int(k_offsets[r]) + j
                for j in range(lk)
                if (not causal or j <= at) and (left < 0 or j >= at - left) and (right < 0 or j <= at + right)
            ]
            assert list(range(k_lo[query], k_hi[query])) == visible
            assert k_offsets[r] <= k_lo[query] <= k_hi[query] <= k_offsets[r + 1]
            query += 1


def test_a_query_past_the_last_offset_sees_nothing():
    offsets = offsets_of([2, 1])
    ids = reference.segment_ids(np, offsets, 5)
    for causal, window in [(False, (-1, -1)), (True, (-1, -1)), (False, (0, 0)), (False, (1, 1))]:
        k_lo, k_hi = reference.key_ranges(np, offsets, offsets, ids, causal=causal, window=window)
        assert (k_lo[3:] == 3).all()
        assert (k_hi[3:] == 3).all()


@pytest.mark.parametrize("window", [(INT32_MAX, INT32_MAX), (7, 0), (0, 7), (-1, -1)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("q_last", "k_last"), [(2, INT32_MAX), (INT32_MAX, INT32_MAX), (INT32_MAX, 3)])
def test_key_ranges_of_the_longest_rows_fit_int32(q_last, k_last, causal, window, monkeypatch):
    # The queries to look at are picked from a row that is too long to be made.
    picked = sorted({0, 1, q_last // 2, q_last - 1})
    counted = types.SimpleNamespace(
        arange=lambda count, dtype, device=None: np.array(picked, dtype),
        **{name: getattr(np, name) for name in ("take", "concat", "where", "zeros_like", "maximum")},
    )
    ranges = [
        reference.key_ranges(
            counted,
            np.array([0, q_last], dtype),
            np.array([0, k_last], dtype),
            np.zeros(len(picked), dtype),
            causal=causal,
            window=window,
        )
        for dtype in (np.int32, np.int64)
    ]
    np.testing.assert_array_equal(ranges[0], ranges[1])
