"""Arrays with a tail: elements behind the last offset, which belong to no row. Ops: the conformance suite."""

import pickle

import numpy as np
import pytest

import scree_core as scree
from scree_core.layout import Layout


@pytest.fixture
def arr():
    values = np.array([1.0, 2.0, 3.0, np.nan, np.nan])
    return scree.Array(values, np.array([0, 1, 3], np.int32), tail=True)


def test_a_tail_has_to_be_asked_for():
    with pytest.raises(scree.ShapeError, match=r"must equal .* \(5\); for dead elements behind .* pass tail=True"):
        scree.Array(np.zeros(5), np.array([0, 3]))
    with pytest.raises(
        scree.ShapeError, match=r"offsets\[-1\] \(9\) must not exceed values.shape\[ragged_dim=0\] \(5\)"
    ):
        scree.Array(np.zeros(5), np.array([0, 9]), tail=True)
    assert scree.from_cu_seqlens(np.zeros(5), np.array([0, 3]), tail=True).layout.tail


def test_a_layout_checks_its_total_too():
    assert Layout(np.array([0, 3]), total=5, tail=True).tail
    with pytest.raises(scree.ShapeError, match=r"offsets\[-1\] \(3\) must equal total \(5\)"):
        Layout(np.array([0, 3]), total=5)


def test_rows_end_where_the_offsets_do(arr):
    assert [row.tolist() for row in arr] == [[1], [2, 3]]
    assert arr[1:].values.tolist() == [2, 3]
    assert not arr[1:].layout.tail
    assert arr[[1, 0]].values.tolist() == [2, 3, 1]
    assert arr.lengths.tolist() == [1, 2]
    assert (arr.total_length, arr.batch_size, arr.max_length) == (5, 2, 2)


def test_dead_elements_have_a_row_number_past_the_last(arr):
    assert arr.segment_ids.tolist() == [0, 1, 1, 2, 2]
    assert arr.positions.tolist() == [0, 0, 1, 0, 0]


def test_padding_and_concat_leave_the_tail_out(arr):
    assert scree.to_padded(arr)[0].tolist() == [[1, 0], [2, 3]]
    joined = scree.concat([arr, arr])
    assert joined.values.tolist() == [1, 2, 3, 1, 2, 3]
    assert not joined.layout.tail


def test_operators_keep_the_tail(arr):
    doubled = arr + arr
    assert doubled.layout is arr.layout
    assert scree.varlen_sum(doubled).tolist() == [2, 10]


def test_operands_need_tails_of_one_length(arr):
    shorter = scree.Array(arr.values[:4], arr.offsets, tail=True)
    with pytest.raises(scree.ShapeError, match="5 and 4 elements"):
        arr + shorter


def test_queries_and_keys_may_have_tails_of_other_lengths():
    rng = np.random.default_rng(0)
    q, k, v = (scree.from_lengths(rng.standard_normal((5, 2, 4)), [2, 3]) for _ in range(3))
    long_q, long_k, long_v = (scree.bucket(x, multiple=n) for x, n in ((q, 8), (k, 16), (v, 16)))
    out = scree.varlen_attention(long_q, long_k, long_v, causal=True)
    assert out.total_length == 8
    assert np.array_equal(out.values[:5], scree.varlen_attention(q, k, v, causal=True).values)


def test_positions_of_the_tail_are_not_checked():
    x = scree.Array(np.ones((3, 2)), np.array([0, 2]), tail=True)
    tables = np.ones((4, 1)), np.zeros((4, 1))
    assert scree.varlen_rope(x, *tables, positions=np.array([3, 0, 99])).values.tolist() == [[1, 1], [1, 1], [0, 0]]
    with pytest.raises(scree.ShapeError, match=r"positions\[0\] is 4"):
        scree.varlen_rope(x, *tables, positions=np.array([4, 0, 99]))


def test_from_padded_makes_room():
    padded, mask = np.array([[7.0, 0.0], [8.0, 9.0]]), np.array([[True, False], [True, True]])
    arr = scree.from_padded(padded, mask, capacity=6)
    assert arr.values.tolist() == [7, 8, 9, 0, 0, 0]
    assert arr.layout.tail
    with pytest.raises(scree.ShapeError, match="capacity=2 is too small for 3 elements"):
        scree.from_padded(padded, mask, capacity=2)


def test_a_tail_survives_pickling_and_shows(arr):
    assert pickle.loads(pickle.dumps(arr)).layout.tail
    assert "tail=True" in repr(arr)
    assert "tail=True" in repr(arr.layout)
