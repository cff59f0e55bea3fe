"""Arrays of any library as Arrays of tensors."""

import ml_dtypes
import numpy as np
import pytest
import torch

import scree
from scree_torch.bridges import to_torch


def test_numpy_memory_is_shared():
    values, offsets = np.zeros((3, 2), np.float32), np.array([0, 1, 3])
    out = to_torch(scree.Array(values, offsets))
    values[0, 0] = 7
    assert out.values[0, 0] == 7
    assert np.shares_memory(out.values.numpy(), values)
    assert np.shares_memory(out.offsets.numpy(), offsets)
    assert out.offsets.dtype == torch.int64
    assert (out.max_length, out.min_length) == (2, 1)


def test_read_only_values_and_negative_strides_are_copied():
    values = np.arange(6.0).reshape(3, 2)[::-1]
    values.flags.writeable = False
    out = to_torch(scree.from_lengths(values, [1, 2]))
    assert out.values.tolist() == values.tolist()
    assert not np.shares_memory(out.values.numpy(), values)


def test_tensors_come_back_as_the_same_object():
    arr = scree.from_lengths(torch.ones(3), [1, 2])
    assert to_torch(arr) is arr
    assert to_torch(arr, "cpu") is arr


def test_device_moves_both_and_keeps_hints_and_axis():
    arr = scree.from_lengths(torch.ones(2, 3), [1, 2], ragged_dim=1)
    out = to_torch(arr, "meta")
    assert (out.values.device.type, out.offsets.device.type) == ("meta", "meta")
    assert (out.ragged_dim, out.max_length, out.min_length, out.total_length) == (1, 2, 1, 3)
    assert out.layout.host.tolist() == [0, 1, 3]
    assert to_torch(scree.from_lengths(np.ones(3), [1, 2]), "meta").values.device.type == "meta"


def test_bfloat16_comes_over():
    out = to_torch(scree.from_lengths(np.ones(3, ml_dtypes.bfloat16), [1, 2]))
    assert out.dtype == torch.bfloat16
    assert out.values.tolist() == [1, 1, 1]


@pytest.mark.parametrize("library", ["jax.numpy", "mlx.core"])
def test_other_libraries_come_over_as_copies(library):
    xp = pytest.importorskip(library)
    arr = scree.from_lengths(xp.arange(6, dtype=xp.float32).reshape(3, 2), [1, 2])
    out = to_torch(arr)
    out.values[:] = -1
    assert arr.values.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert out.offsets.tolist() == [0, 1, 3]


def test_gradients_flow_between_devices():
    values = torch.ones(3, requires_grad=True)
    moved = to_torch(scree.from_lengths(values, [1, 2]), "meta").values
    assert moved.requires_grad


def test_other_objects_are_refused():
    with pytest.raises(scree.ArgumentTypeError, match=r"must be a scree.Array, got ndarray"):
        to_torch(np.ones(3))


def test_a_tail_stays_one():
    out = to_torch(scree.Array(np.arange(5.0), np.array([0, 1, 3]), tail=True))
    assert out.layout.tail
    assert (out.total_length, out.max_length) == (5, 2)
    assert scree.varlen_sum(out).tolist() == [0, 3]
