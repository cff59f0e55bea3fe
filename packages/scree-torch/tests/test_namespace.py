"""The array API names on torch functions."""

import numpy as np
import pytest
import torch

from scree_core.protocols import Namespace
from scree_torch import namespace as xp


def test_namespace_has_the_names_of_the_protocol_alone():
    assert sorted(xp.__all__) == sorted(Namespace.__annotations__)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.bool, torch.float16])
@pytest.mark.parametrize("index", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_take_gathers_every_dtype_by_every_integer(dtype, index):
    x = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    out = xp.take(x, torch.tensor([1, 1, 0]).to(index), axis=0)
    assert out.dtype == dtype
    assert out.tolist() == x[[1, 1, 0]].tolist()


def test_take_refuses_indices_out_of_range():
    with pytest.raises(IndexError):
        xp.take(torch.zeros(3), torch.tensor([3]), axis=0)


def test_full_is_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        assert xp.full((), 1.0, dtype=torch.float32).device.type == "cpu"


def test_searchsorted_takes_strided_tensors_silently():
    found = xp.searchsorted(torch.tensor([0, 9, 2, 9, 5])[::2], torch.arange(10)[::2], side="right")
    assert found.tolist() == np.searchsorted([0, 2, 5], np.arange(10)[::2], side="right").tolist()


@pytest.mark.parametrize("reduce", [xp.max, xp.min])
def test_ties_share_the_gradient_equally(reduce):
    x = torch.tensor([2.0, 2.0, 2.0], requires_grad=True)
    (grad,) = torch.autograd.grad(reduce(x, axis=0), x)
    torch.testing.assert_close(grad, torch.full((3,), 1 / 3))
