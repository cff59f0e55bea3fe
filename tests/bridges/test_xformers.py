"""xFormers' masks against ours, which are those of scree.varlen_attention."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("xformers", reason="xFormers isn't installed")
pytest.importorskip("scree_torch", reason="scree-torch isn't installed")

import scree  # noqa: E402

LENGTHS = st.lists(st.integers(0, 6), max_size=5)


def rows(lengths, dtype=torch.int32):
    offsets = torch.tensor([0, *itertools.accumulate(lengths)], dtype=dtype)
    return scree.Array(torch.arange(float(sum(lengths))), offsets)


def seen(bias, q, k):
    """Return whom each query sees by xFormers' own account."""
    return bias.materialize((q.total_length, k.total_length)) == 0


def seen_by_block_mask(q, k, **options):
    if not q.total_length or not k.total_length:
        return torch.zeros(q.total_length, k.total_length, dtype=torch.bool)
    return scree.bridges.to_block_mask(q, k, block_size=1, **options).to_dense()[0, 0].bool()


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(queries=LENGTHS, more=st.lists(st.integers(0, 4), min_size=5, max_size=5), left=st.integers(-1, 5))
def test_it_is_the_mask_of_ours(causal, queries, more, left):
    q, k = rows(queries), rows([n + m for n, m in zip(queries, more, strict=False)], torch.int64)
    window = (left, -1) if causal else None
    for keys in (q, k):
        options = {"causal": causal, "window": window}
        bias = scree.bridges.to_xformers(q, keys, **options)
        assert torch.equal(seen(bias, q, keys), seen_by_block_mask(q, keys, **options))


@given(queries=LENGTHS, keys=st.lists(st.integers(0, 6), min_size=5, max_size=5))
@settings(max_examples=40, deadline=None)
def test_rows_of_any_lengths_see_themselves(queries, keys):
    q, k = rows(queries), rows(keys[: len(queries)])
    assert torch.equal(seen(scree.bridges.to_xformers(q, k), q, k), seen_by_block_mask(q, k))


@pytest.mark.parametrize("lengths", [[3, 0, 2], [4], [0, 0], []], ids=str)
def test_it_is_what_xformers_makes_of_lengths(lengths):
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    ours, theirs = scree.bridges.to_xformers(rows(lengths)), BlockDiagonalMask.from_seqlens(lengths)
    assert type(ours) is type(theirs)
    assert ours.q_seqinfo is ours.k_seqinfo
    for name, value in vars(theirs.q_seqinfo).items():
        found = getattr(ours.q_seqinfo, name)
        assert torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value, name
    assert torch.equal(ours.q_seqinfo.seqstart, theirs.q_seqinfo.seqstart)
    assert ours.q_seqinfo.seqstart.dtype == theirs.q_seqinfo.seqstart.dtype


def test_make_causal_is_another_mask_where_keys_are_more_than_queries():
    q, k = rows([2, 1]), rows([3, 1])
    bias = scree.bridges.to_xformers(q, k)
    ours = seen_by_block_mask(q, k, causal=True)
    assert torch.equal(seen(bias.make_causal_from_bottomright(), q, k), ours)
    assert not torch.equal(seen(bias.make_causal(), q, k), ours)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [(0, 0), (2, 0), (-1, 0), (2, 3), (100, 1)], ids=str)
def test_windows_reach_as_far(causal, window):
    q, k = rows([4, 0, 2]), rows([6, 1, 2])
    if not causal and window[1]:
        with pytest.raises(scree.ArgumentError, match="isn't causal"):
            scree.bridges.to_xformers(q, k, window=window)
        return
    bias = scree.bridges.to_xformers(q, k, causal=causal, window=window)
    assert torch.equal(seen(bias, q, k), seen_by_block_mask(q, k, causal=causal, window=window))


def test_lists_of_tensors_cross_from_xformers_and_split_there_again():
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    tensors = [torch.randn(1, 3, 2), torch.randn(2, 1, 2), torch.randn(1, 0, 2)]
    bias, packed = BlockDiagonalMask.from_tensor_list(tensors)
    arr = scree.bridges.from_xformers(packed, bias)
    assert arr.lengths.tolist() == [3, 1, 1, 0]
    assert arr.offsets is bias.q_seqinfo.seqstart
    assert arr.values.data_ptr() == packed.data_ptr()
    assert torch.equal(arr[2], tensors[1][1])
    again = scree.bridges.to_xformers(arr).split(arr.values[None])
    assert [x.tolist() for x in again] == [row[None].tolist() for row in arr]


def test_keys_with_gaps_are_refused_and_their_queries_are_not():
    from xformers.ops.fmha.attn_bias import BlockDiagonalPaddedKeysMask

    bias = BlockDiagonalPaddedKeysMask.from_seqlens([1, 2], 4, [3, 4])
    assert scree.bridges.from_xformers(torch.zeros(1, 3), bias).lengths.tolist() == [1, 2]
    with pytest.raises(scree.ArgumentTypeError, match="k rows of BlockDiagonalPaddedKeysMask have gaps"):
        scree.bridges.from_xformers(torch.zeros(1, 8), bias, rows="k")
