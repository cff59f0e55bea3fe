"""FlexAttention's block masks, made of offsets: those that create_block_mask finds by looking at every pair."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention, noop_mask

import scree
from scree_torch.bridges import to_block_mask

LENGTHS = {
    "one": [7],
    "some": [3, 0, 16, 5, 0, 9],
    "blocks": [8, 16, 8],
    "empty": [0, 0],
    "ends": [0, 13, 1, 0],
    "long": [40],
    "none": [],
}
CROSS = {
    "decoding": ([1, 1, 1], [9, 0, 20]),
    "more queries": ([12, 9], [4, 9]),
    "no keys": ([3, 4], [0, 0]),
    "no queries": ([0, 0], [9, 8]),
    "gaps": ([2, 0, 1, 30], [17, 33, 8, 3]),
}
WINDOWS = [None, (0, 0), (3, -1), (-1, 2), (5, 4), (100, 1)]
TENSORS = (
    *("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"),
    *("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices"),
)


def rows(lengths, dtype=torch.int32, tail=0):
    offsets = torch.tensor([0, *itertools.accumulate(lengths)], dtype=dtype)
    return scree.Array(torch.zeros(sum(lengths) + tail), offsets, tail=tail > 0)


def looked_at(q, k, causal, window, block_size):
    """Return create_block_mask's answer to the rule of scree.varlen_attention, in plain words."""
    shift = torch.cat([k.lengths - q.lengths, torch.zeros(1)])
    left, right = window or (-1, -1)

    def mask_mod(b, h, i, j):
        row = q.segment_ids[i]
        own = q.positions[i] + shift[row]
        seen = (row == k.segment_ids[j]) & (row < q.batch_size)
        seen = seen & (k.positions[j] <= own) if causal else seen
        seen = seen & (k.positions[j] >= own - left) if left >= 0 else seen
        return seen & (k.positions[j] <= own + right) if right >= 0 else seen

    if not q.total_length or not k.total_length:  # from which nothing can be taken, not even for no pair
        mask_mod = noop_mask
    return create_block_mask(mask_mod, None, None, q.total_length, k.total_length, "cpu", block_size)


def check(q, k, causal, window, block_size):
    found = to_block_mask(q, k, causal=causal, window=window, block_size=block_size)
    wanted = looked_at(q, q if k is None else k, causal, window, block_size)
    for name in TENSORS:
        x, y = getattr(found, name), getattr(wanted, name)
        assert torch.equal(x, y), name
        assert (x.dtype, x.stride()) == (y.dtype, y.stride()), name
    assert torch.equal(found.to_dense(), wanted.to_dense())
    assert (found.seq_lengths, found.BLOCK_SIZE, found.shape) == (wanted.seq_lengths, wanted.BLOCK_SIZE, wanted.shape)
    pairs = torch.arange(found.seq_lengths[0])[:, None], torch.arange(found.seq_lengths[1])
    if all(found.seq_lengths):
        assert torch.equal(found.mask_mod(0, 0, *pairs), wanted.mask_mod(0, 0, *pairs))
    return found


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_it_is_the_mask_that_create_block_mask_finds(lengths, causal, window):
    check(rows(lengths), None, causal, window, 8)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("lengths", CROSS.values(), ids=CROSS)
def test_queries_and_keys_may_lie_differently(lengths, causal, window):
    q, k = map(rows, lengths)
    check(q, k, causal, window, (4, 8))


@pytest.mark.parametrize("seed", range(20))
def test_random_batches_agree(seed):
    rng = np.random.default_rng(seed)
    batch = int(rng.integers(1, 8))
    q, k = (rows(rng.integers(0, 30, batch).tolist(), tail=int(rng.integers(0, 20))) for _ in range(2))
    window = None if seed % 3 == 0 else tuple(rng.integers(-1, 12, 2).tolist())
    block_size = tuple(rng.integers(1, 20, 2).tolist())
    check(q, k, bool(seed % 2), window, block_size)
    check(q, None, bool(seed % 2), window, block_size)


@pytest.mark.parametrize("tail", [1, 8, 30])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_a_tail_sees_nothing_and_is_not_seen(tail, causal):
    arr = rows([5, 0, 11], tail=tail)
    mask = check(arr, None, causal, None, 8)
    seen = mask.mask_mod(0, 0, torch.arange(16 + tail)[:, None], torch.arange(16 + tail))
    assert not seen[16:].any()
    assert not seen[:, 16:].any()


def test_blocks_of_128_have_full_and_partial_ones():
    mask = check(rows([500, 140]), None, True, None, 128)
    assert mask.full_kv_num_blocks.sum() == 3
    assert mask.kv_num_blocks.sum() == 9


def test_int64_offsets_and_layouts_alone_do_as_well():
    wanted = to_block_mask(rows([3, 9]), block_size=4)
    layout = rows([3, 9], torch.int64).layout
    untold = scree.Layout(layout.offsets, host=layout.offsets.numpy())
    for x in (layout, untold, scree.from_lengths(np.zeros(12), [3, 9])):
        found = to_block_mask(x, block_size=4)
        assert torch.equal(found.kv_indices, wanted.kv_indices)
        assert torch.equal(found.full_kv_num_blocks, wanted.full_kv_num_blocks)


def test_the_ragged_axis_may_be_any():
    arr = scree.from_lengths(torch.zeros(2, 12), [3, 9], ragged_dim=1)
    assert torch.equal(to_block_mask(arr).kv_indices, to_block_mask(rows([3, 9])).kv_indices)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")  # as is meant here
@pytest.mark.parametrize(
    "options", [{}, {"causal": True}, {"causal": True, "window": (6, 0)}, {"window": (2, 3)}], ids=str
)
@pytest.mark.parametrize(
    "lengths",
    [([9, 0, 20, 3], [9, 0, 20, 3]), ([2, 5, 9], [12, 5, 6]), ([3, 4], [0, 4])],
    ids=["self", "cross", "unseen"],
)
def test_flex_attention_with_it_is_varlen_attention(lengths, options):
    torch.manual_seed(0)
    q, k, v = (scree.from_lengths(torch.randn(sum(n), 2, 16), n) for n in (lengths[0], lengths[1], lengths[1]))
    mask = to_block_mask(q, k, block_size=8, **options)
    dense = [x.values.transpose(0, 1)[None] for x in (q, k, v)]
    out = flex_attention(*dense, block_mask=mask)[0].transpose(0, 1)
    torch.testing.assert_close(out, scree.varlen_attention(q, k, v, **options).values)


def test_nothing_is_read_from_the_device():
    offsets = torch.tensor([0, 300, 1000], device="meta")  # which has nothing to read
    mask = to_block_mask(scree.Array(torch.empty(1000, device="meta"), offsets), causal=True, window=(9, 0))
    assert mask.kv_indices.shape == (1, 1, 8, 8)
    assert mask.kv_indices.device.type == "meta"


def test_other_objects_are_refused():
    with pytest.raises(scree.ArgumentTypeError, match=r"q must be a scree\.Array.*got Tensor.*scree\.Layout"):
        to_block_mask(torch.tensor([0, 3]))
    with pytest.raises(scree.ArgumentTypeError, match=r"k must be.*got a Layout of ndarray"):
        to_block_mask(rows([3]), scree.Layout(np.array([0, 3])))
    with pytest.raises(scree.ShapeError, match=r"q is a Layout that doesn't know its total.*total=total"):
        to_block_mask(scree.Layout(torch.tensor([0, 3])))


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(scree.ShapeError, match="same batch size, got 1 and 2 rows"):
        to_block_mask(rows([3]), rows([3, 4]))
    elsewhere = scree.Array(torch.empty(3, device="meta"), torch.tensor([0, 3], device="meta"))
    with pytest.raises(scree.ShapeError, match="q is on cpu, k on meta; move one"):
        to_block_mask(rows([3]), elsewhere)


@pytest.mark.parametrize("block_size", [0, -1, (8, 0)])
def test_block_sizes_that_are_not_positive_are_refused(block_size):
    with pytest.raises(scree.ArgumentError, match="block_size must be positive, got"):
        to_block_mask(rows([3]), block_size=block_size)


@pytest.mark.parametrize("block_size", [2.5, "8", (8,), (8, 8, 8), None])
def test_block_sizes_that_are_no_integers_are_refused(block_size):
    with pytest.raises(scree.ArgumentTypeError, match="block_size must be an integer or a pair"):
        to_block_mask(rows([3]), block_size=block_size)


def test_windows_are_checked_as_those_of_varlen_attention():
    with pytest.raises(scree.ArgumentError, match="window bounds must be -1"):
        to_block_mask(rows([3]), window=(-2, 0))
    with pytest.raises(scree.ArgumentTypeError, match="window must be a pair"):
        to_block_mask(rows([3]), window=4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # torch says that it is a prototype
def test_no_sync_on_cuda():
    on_host = rows([300, 0, 1000], tail=100)
    arr = scree.Array(on_host.values.cuda(), on_host.offsets.cuda(), tail=True)
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode("error")
        found = to_block_mask(arr, causal=True, window=(200, 0))
    finally:
        torch.cuda.set_sync_debug_mode(before)
    wanted = to_block_mask(on_host, causal=True, window=(200, 0))
    assert all(torch.equal(getattr(found, name).cpu(), getattr(wanted, name)) for name in TENSORS)
