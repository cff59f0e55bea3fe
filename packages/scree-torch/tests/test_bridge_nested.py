"""PyTorch's jagged nested tensors."""

import numpy as np
import pytest
import torch

import scree
from scree_torch.bridges import from_torch_nested, to_torch_nested


@pytest.fixture
def arr():
    values = torch.arange(10.0).reshape(5, 2)
    return scree.Array(values, torch.tensor([0, 2, 2, 5], dtype=torch.int32))


def test_round_trip_keeps_memory_values_and_int32_offsets(arr):
    nested = to_torch_nested(arr)
    assert nested.layout == torch.jagged
    assert [row.shape[0] for row in nested.unbind()] == [2, 0, 3]
    assert nested.offsets().dtype == torch.int64
    back = from_torch_nested(nested)
    assert back.values.data_ptr() == arr.values.data_ptr()
    assert torch.equal(back.offsets, arr.offsets)
    assert back.offsets.dtype == torch.int32
    assert (back.max_length, back.min_length) == (3, 0)


def test_int64_offsets_are_not_copied():
    offsets = torch.tensor([0, 1, 3])
    assert to_torch_nested(scree.Array(torch.ones(3), offsets)).offsets() is offsets


@pytest.mark.parametrize("ragged_dim", [0, 1, 2])
def test_any_ragged_axis_goes_over(ragged_dim):
    values = torch.arange(64.0).reshape(4, 4, 4)
    arr = scree.from_lengths(values, [1, 3], ragged_dim=ragged_dim)
    nested = to_torch_nested(arr)
    assert nested.dim() == 4
    for row, part in zip(scree.unpack(arr), nested.unbind(), strict=True):
        assert torch.equal(row, part)
    back = from_torch_nested(nested)
    assert back.ragged_dim == ragged_dim
    assert torch.equal(back.values, values)


def test_transposed_nested_tensors_come_back_by_their_ragged_axis(arr):
    back = from_torch_nested(to_torch_nested(arr).transpose(1, 2))
    assert back.ragged_dim == 1
    assert torch.equal(back.values, arr.values.T)


@pytest.mark.parametrize("lengths", [[0, 0], [4], []])
def test_empty_and_single_batches_go_over(lengths):
    arr = scree.from_lengths(torch.ones(sum(lengths), 3), lengths)
    back = from_torch_nested(to_torch_nested(arr))
    assert back.lengths.tolist() == lengths


def test_gradients_flow_both_ways(arr):
    values = arr.values.clone().requires_grad_()
    nested = to_torch_nested(arr.with_values(values)) * 3
    out = from_torch_nested(nested)
    (out * 2).values.sum().backward()
    assert (values.grad == 6).all()


def test_hints_that_are_mere_bounds_do_not_become_padding():
    offsets = torch.tensor([0, 1, 3], device="meta")
    arr = scree.Array(torch.ones(3, device="meta"), offsets, max_length=100)
    assert to_torch_nested(arr)._maybe_max_seqlen is None


def test_numpy_arrays_go_over_without_a_copy():
    values = np.ones((3, 2), np.float32)
    nested = to_torch_nested(scree.from_lengths(values, [1, 2]))
    assert np.shares_memory(nested.values().numpy(), values)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_strided_nested_tensors_are_refused_with_the_mend():
    strided = torch.nested.nested_tensor([torch.ones(2), torch.ones(1)], layout=torch.strided)
    with pytest.raises(scree.ShapeError, match=r"strided layout.*scree\.pack\(list\(nested\.unbind\(\)\)\)"):
        from_torch_nested(strided)
    assert scree.pack(list(strided.unbind())).lengths.tolist() == [2, 1]


def test_nested_tensors_with_holes_are_refused_with_the_mend():
    base = torch.arange(20.0).reshape(2, 5, 2)
    holes = torch.nested.narrow(base, 1, torch.tensor([0, 1]), torch.tensor([2, 3]), layout=torch.jagged)
    with pytest.raises(scree.ShapeError, match=r"holes.*nested\.contiguous\(\)"):
        from_torch_nested(holes)
    closed = from_torch_nested(holes.contiguous())
    assert closed.lengths.tolist() == [2, 3]
    assert torch.equal(closed.values, torch.cat([base[0, :2], base[1, 1:4]]))


def test_dense_tensors_are_refused():
    with pytest.raises(scree.ArgumentTypeError, match="must be a nested tensor, got Tensor"):
        from_torch_nested(torch.ones(3))


@pytest.mark.parametrize("ragged_dim", [0, 1])
def test_a_tail_is_cut_off(ragged_dim):
    values = torch.arange(14.0).reshape(7, 2) if ragged_dim == 0 else torch.arange(14.0).reshape(2, 7)
    arr = scree.Array(values, torch.tensor([0, 2, 5]), ragged_dim, tail=True)
    nested = to_torch_nested(arr)
    assert nested.values().data_ptr() == values.data_ptr()
    assert all(map(torch.equal, nested.unbind(), scree.unpack(arr)))
    assert from_torch_nested(nested).total_length == 5
