"""The packed sequences of PyTorch's recurrent layers."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import scree
from scree_torch.bridges import from_packed_sequence, to_packed_sequence

LENGTHS = {"some": [2, 5, 1, 5, 3], "one": [4], "equal": [3, 3, 3], "ones": [1, 1], "sorted": [4, 2, 1]}


def batch(lengths, *features, dtype=torch.float32, offsets=torch.int32):
    values = torch.randn(sum(lengths), *features, generator=torch.Generator().manual_seed(0)).to(dtype)
    arr = scree.from_lengths(values, lengths)
    return scree.Array(values, arr.offsets.to(offsets))


@pytest.mark.parametrize("features", [(), (3,), (2, 4)], ids=str)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_it_is_what_pack_sequence_makes_of_the_rows(lengths, features):
    arr = batch(lengths, *features)
    found, wanted = to_packed_sequence(arr), pack_sequence(scree.unpack(arr), enforce_sorted=False)
    for name in PackedSequence._fields:
        x, y = getattr(found, name), getattr(wanted, name)
        assert torch.equal(x, y), name
        assert (x.dtype, x.device) == (y.dtype, y.device), name


def test_rows_of_one_length_lie_as_pytorch_lays_them():
    lengths = np.random.default_rng(0).integers(1, 4, 2000).tolist()  # a stable sort would differ
    arr = batch(lengths)
    found, wanted = to_packed_sequence(arr), pack_sequence(scree.unpack(arr), enforce_sorted=False)
    assert torch.equal(found.sorted_indices, wanted.sorted_indices)
    assert torch.equal(found.data, wanted.data)
    assert torch.equal(found.batch_sizes, wanted.batch_sizes)


@pytest.mark.parametrize("offsets", [torch.int32, torch.int64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_rows_come_back_in_their_order(lengths, dtype, offsets):
    arr = batch(lengths, 3, dtype=dtype, offsets=offsets)
    back = from_packed_sequence(to_packed_sequence(arr))
    assert torch.equal(back.values, arr.values)
    assert back.values.dtype == dtype
    assert torch.equal(back.offsets, arr.offsets.to(torch.int32))
    assert back.offsets.dtype == torch.int32
    assert (back.max_length, back.min_length) == (max(lengths), min(lengths))


def test_what_pytorch_packed_comes_over_sorted_by_hand_or_not():
    rows = [torch.randn(n, 2) for n in (5, 3, 3, 1)]
    for packed in (pack_sequence(rows), pack_sequence(rows, enforce_sorted=False)):
        assert all(map(torch.equal, scree.unpack(from_packed_sequence(packed)), rows))
    mixed = rows[::-1]
    back = from_packed_sequence(pack_sequence(mixed, enforce_sorted=False))
    assert all(map(torch.equal, scree.unpack(back), mixed))


def test_a_recurrent_layer_runs_between_them():
    torch.manual_seed(0)
    layer = torch.nn.LSTM(3, 4)
    arr = batch([2, 5, 1, 5], 3)
    out, _ = layer(to_packed_sequence(arr))
    back = from_packed_sequence(out)
    assert torch.equal(back.offsets, arr.offsets)
    for row, given in zip(back, arr, strict=True):
        torch.testing.assert_close(row, layer(given)[0])


def test_gradients_flow_both_ways():
    arr = batch([2, 4, 1], 2, dtype=torch.float64)
    values = arr.values.requires_grad_()

    def there(x):
        return to_packed_sequence(arr.with_values(x)).data

    def and_back(x):
        return from_packed_sequence(to_packed_sequence(arr.with_values(x))).values

    def back(x):
        packed = to_packed_sequence(batch([2, 4, 1], 2))
        return from_packed_sequence(packed._replace(data=x)).values

    for way in (there, and_back, back):
        assert torch.autograd.gradcheck(way, values)


def test_a_tail_is_cut_off_and_the_ragged_axis_comes_first():
    arr = batch([2, 5, 1], 3)
    wanted = to_packed_sequence(arr)
    for other in (
        scree.Array(torch.cat([arr.values, torch.full((4, 3), torch.nan)]), arr.offsets, tail=True),
        scree.Array(arr.values.T, arr.offsets, ragged_dim=1),
        scree.from_lengths(arr.values.numpy(), [2, 5, 1]),
    ):
        found = to_packed_sequence(other)
        assert torch.equal(found.data, wanted.data)
        assert torch.equal(found.batch_sizes, wanted.batch_sizes)


def test_empty_rows_are_refused_by_number_with_the_mend():
    arr = scree.from_lengths(torch.ones(3), [2, 0, 1, 0])
    with pytest.raises(RuntimeError, match="greater than 0"):
        pack_sequence(scree.unpack(arr), enforce_sorted=False)
    with pytest.raises(scree.ShapeError, match=r"row 1 is empty.*arr\[arr\.lengths > 0\]"):
        to_packed_sequence(arr)
    mended = to_packed_sequence(arr[arr.lengths > 0])
    assert mended.batch_sizes.tolist() == [2, 1]


def test_batches_of_no_rows_are_refused():
    with pytest.raises(scree.ShapeError, match="arr has no row"):
        to_packed_sequence(scree.from_lengths(torch.ones(0), []))


def test_packed_sequences_that_make_no_sense_are_refused():
    data = torch.ones(3)
    with pytest.raises(scree.ShapeError, match=r"batch_sizes\[1\] > batch_sizes\[0\] \(2 > 1\)"):
        from_packed_sequence(PackedSequence(data, torch.tensor([1, 2])))
    with pytest.raises(scree.ShapeError, match="add up to 4, but data has 3"):
        from_packed_sequence(PackedSequence(data, torch.tensor([2, 2])))


def test_other_objects_are_refused():
    with pytest.raises(scree.ArgumentTypeError, match=r"must be a torch\.nn\.utils\.rnn\.PackedSequence, got list"):
        from_packed_sequence([torch.ones(2)])
    with pytest.raises(scree.ArgumentTypeError, match=r"arr must be a scree\.Array, got Tensor"):
        to_packed_sequence(torch.ones(2))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # torch says that it is a prototype
def test_coming_back_does_not_sync_and_going_does_once():
    arr = batch([2, 5, 1, 5], 3)
    on_device = scree.from_lengths(arr.values.cuda(), [2, 5, 1, 5])  # whose offsets the host knows
    before = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode("error")
        packed = to_packed_sequence(on_device)
        back = from_packed_sequence(packed)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert packed.batch_sizes.device.type == "cpu"
    assert torch.equal(back.values.cpu(), arr.values)
    unread = scree.Array(on_device.values, on_device.offsets.clone())
    assert torch.equal(to_packed_sequence(unread).data, packed.data)


def test_lists_of_tensors_have_pack_and_unpack_with_gradients():
    rows = [torch.randn(n, 2, dtype=torch.float64, requires_grad=True) for n in (2, 0, 3)]
    assert torch.autograd.gradcheck(lambda *x: scree.pack(x).values, rows)
    assert torch.autograd.gradcheck(lambda *x: tuple(scree.unpack(scree.pack(x))), rows)
    assert all(map(torch.equal, scree.unpack(scree.pack(rows)), rows))
