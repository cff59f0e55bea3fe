"""Tensors from NumPy and back."""

import sys

import ml_dtypes
import numpy as np
import pytest
import torch

from scree_core.errors import UnsupportedError
from scree_torch.convert import from_numpy, to_numpy


def test_writable_memory_is_shared():
    a = np.zeros(3, np.float32)
    tensor = from_numpy(a)
    a[1] = 7
    assert tensor.tolist() == [0, 7, 0]


def read_only() -> np.ndarray:
    a = np.arange(6, dtype=np.int32)
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    "a",
    [
        pytest.param(read_only(), id="read-only"),
        pytest.param(np.broadcast_to(np.float32(2), (3, 2)), id="broadcast"),
        pytest.param(np.arange(6)[::-1], id="negative strides"),
        pytest.param(np.arange(12.0).reshape(3, 4)[:, ::-2], id="negative inner strides"),
        pytest.param(np.arange(3, dtype=">f4"), id="big endian"),
        pytest.param(np.ones(3, [("flag", "u1"), ("x", "f4")])["x"], id="odd strides"),
        pytest.param(read_only()[:1].reshape(()), id="read-only scalar"),
    ],
)
def test_what_a_tensor_cannot_be_is_copied(a):
    tensor = from_numpy(a)
    assert tensor.shape == a.shape
    assert str(tensor.dtype) == f"torch.{a.dtype.name}"
    assert tensor.tolist() == a.tolist()
    assert not np.shares_memory(tensor.numpy(), a)


def test_bfloat16_keeps_its_bits_both_ways():
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    a = bits.view(ml_dtypes.bfloat16)
    tensor = from_numpy(a[:, ::2])
    assert tensor.dtype == torch.bfloat16
    assert to_numpy(tensor).dtype == ml_dtypes.bfloat16
    assert np.array_equal(to_numpy(tensor).view(np.uint16), bits[:, ::2])
    assert np.array_equal(to_numpy(tensor.T).view(np.uint16), bits[:, ::2].T)


def test_bfloat16_without_ml_dtypes_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(UnsupportedError, match="pip install ml-dtypes, or cast first"):
        to_numpy(torch.zeros(2, dtype=torch.bfloat16))


def test_float64_and_int64_keep_every_bit():
    assert to_numpy(from_numpy(np.array([1 / 3])))[0] == 1 / 3
    assert to_numpy(from_numpy(np.array([2**62 + 1])))[0] == 2**62 + 1


def test_device_decides_where():
    assert from_numpy(np.zeros(2), torch.device("meta")).device.type == "meta"


def test_to_numpy_detaches():
    tensor = torch.ones(2, requires_grad=True)
    assert to_numpy(tensor).tolist() == [1, 1]
    assert np.shares_memory(to_numpy(tensor), tensor.detach().numpy())


def test_to_numpy_resolves_lazy_conjugates():
    tensor = torch.tensor([1 + 2j]).conj()
    assert to_numpy(tensor).tolist() == [1 - 2j]


def test_to_numpy_works_inside_grad_transforms():
    seen = []

    def f(x):
        offsets = torch.tensor([0, 1, 3], dtype=torch.int32)
        seen.append(to_numpy(offsets[1:] - offsets[:-1]))
        seen.append(to_numpy(torch.ones((0, 2), dtype=torch.bfloat16)))
        return x.sum()

    torch.func.grad(f)(torch.ones(2))
    assert seen[0].dtype == np.int32
    assert seen[0].tolist() == [1, 2]
    assert seen[1].shape == (0, 2)
