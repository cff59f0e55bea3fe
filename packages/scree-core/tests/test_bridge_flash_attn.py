"""What variable-length attention functions are told about rows."""

import numpy as np
import pytest

from scree_core import ArgumentError, Array, ShapeError, from_cu_seqlens, from_lengths
from scree_core.bridges import flash_attn_kwargs
from scree_core.bridges.flash_attn import FLAVOURS
from scree_core.errors import ArgumentTypeError
from scree_core.layout import Layout


@pytest.fixture
def q():
    return from_lengths(np.zeros((5, 2, 8), np.float16), [3, 0, 2])


@pytest.fixture
def k():
    return from_lengths(np.zeros((9, 1, 8), np.float16), [4, 5, 0])


def test_the_offsets_are_the_same_objects(q, k):
    found = flash_attn_kwargs(q, k)
    assert list(found) == ["cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"]
    assert found["cu_seqlens_q"] is q.offsets
    assert found["cu_seqlens_k"] is k.offsets
    assert (found["max_seqlen_q"], found["max_seqlen_k"]) == (3, 5)
    assert type(found["max_seqlen_q"]) is type(found["max_seqlen_k"]) is int


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_keys_lie_as_queries_do_where_none_are_given(q, flavour):
    found = flash_attn_kwargs(q, flavour=flavour)
    names = FLAVOURS[flavour]
    assert found[names[0]] is found[names[1]] is q.offsets
    assert names[2] is None or found[names[2]] == found[names[3]] == 3


def test_transformer_engine_is_told_that_rows_are_packed(q):
    assert flash_attn_kwargs(q, flavour="te")["qkv_format"] == "thd"


def test_flashinfer_gets_offsets_alone(q, k):
    assert flash_attn_kwargs(q, k, flavour="flashinfer") == {"qo_indptr": q.offsets, "kv_indptr": k.offsets}


def test_wide_offsets_are_narrowed_once_for_a_layout():
    wide = np.array([0, 3, 5], np.int64)
    q = Array(np.zeros((5, 2, 8)), wide)
    found, again = flash_attn_kwargs(q), flash_attn_kwargs(q.with_values(np.ones((5, 1, 8))))
    assert found["cu_seqlens_q"].dtype == np.int32
    assert found["cu_seqlens_q"].tolist() == [0, 3, 5]
    assert found["cu_seqlens_q"] is found["cu_seqlens_k"] is again["cu_seqlens_q"]


def test_a_bound_of_the_caller_does_for_the_longest_row(q):
    bounded = Layout.trusted(q.offsets, total=5, max_length=16)
    assert flash_attn_kwargs(Array.trusted(q.values, bounded))["max_seqlen_q"] == 16


def test_without_a_bound_the_rows_are_measured(q):
    unknown = Array.trusted(q.values, Layout.trusted(q.offsets, total=5))
    assert flash_attn_kwargs(unknown)["max_seqlen_q"] == 3


def test_a_batch_of_no_rows_has_a_longest_row_of_0():
    nothing = from_cu_seqlens(np.zeros((0, 2, 8)), np.zeros(1, np.int32))
    assert flash_attn_kwargs(nothing)["max_seqlen_q"] == 0
    unknown = Array.trusted(nothing.values, Layout.trusted(nothing.offsets, total=0))
    assert flash_attn_kwargs(unknown)["max_seqlen_q"] == 0


def test_a_tail_leaves_the_offsets_as_they_are():
    q = from_cu_seqlens(np.zeros((8, 2, 8)), np.array([0, 3, 5], np.int32), tail=True)
    found = flash_attn_kwargs(q)
    assert found["cu_seqlens_q"] is q.offsets
    assert found["max_seqlen_q"] == 3


def test_more_elements_than_32_bits_count_are_refused():
    many = 2**31
    huge = Layout.trusted(np.array([0, many], np.int64), total=many, max_length=many)
    values = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), (many,), (0,))  # one byte, seen many times
    with pytest.raises(ShapeError, match=r"q has 2147483648 elements, .* split the batch"):
        flash_attn_kwargs(Array.trusted(values, huge))


def test_an_unknown_flavour_is_told_the_known_ones(q):
    with pytest.raises(ArgumentError, match="flavour='fa5' isn't known; it is one of fa2, fa3, fa4, torch"):
        flash_attn_kwargs(q, flavour="fa5")


def test_unlike_batch_sizes_are_refused(q):
    with pytest.raises(ShapeError, match="q has 3 rows and k 1"):
        flash_attn_kwargs(q, from_lengths(np.zeros((5, 2, 8)), [5]))


def test_rows_along_another_axis_are_refused(q):
    other = from_lengths(np.zeros((2, 5, 8)), [3, 0, 2], ragged_dim=1)
    with pytest.raises(ShapeError, match="q has its rows along axis 1"):
        flash_attn_kwargs(other)
    with pytest.raises(ShapeError, match="k has its rows along axis 1"):
        flash_attn_kwargs(q, other)


def test_what_is_no_array_is_refused(q):
    with pytest.raises(ArgumentTypeError, match=r"q must be a scree\.Array, got ndarray"):
        flash_attn_kwargs(q.values)
    with pytest.raises(ArgumentTypeError, match=r"k must be a scree\.Array, got list"):
        flash_attn_kwargs(q, [1])
