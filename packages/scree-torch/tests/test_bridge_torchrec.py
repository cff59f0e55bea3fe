"""TorchRec's jagged tensors, as a stand-in with the methods of theirs; tests/bridges has the real ones."""

import sys
from types import ModuleType

import pytest
import torch

import scree
from scree_torch.bridges import from_torchrec, to_torchrec


class JaggedTensor:
    def __init__(self, values, weights=None, lengths=None, offsets=None):
        self._values, self._weights, self._offsets = values, weights, offsets

    def values(self):
        return self._values

    def offsets(self):
        return self._offsets

    def weights_or_none(self):
        return self._weights


@pytest.fixture
def torchrec(monkeypatch):
    for name in ("torchrec", "torchrec.sparse", "torchrec.sparse.jagged_tensor"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["torchrec.sparse.jagged_tensor"].JaggedTensor = JaggedTensor


@pytest.mark.usefixtures("torchrec")
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("offsets", [[0, 2, 2, 5], [0, 0], [0]], ids=str)
def test_nothing_is_copied_either_way(offsets, dtype):
    arr = scree.Array(torch.ones(offsets[-1], 2), torch.tensor(offsets, dtype=dtype))
    jagged = to_torchrec(arr)
    assert jagged.values() is arr.values
    assert jagged.offsets() is arr.offsets
    back = from_torchrec(jagged)
    assert back.values is arr.values
    assert back.offsets is arr.offsets


@pytest.mark.usefixtures("torchrec")
def test_the_ragged_axis_comes_first_and_a_tail_is_cut_off():
    values, offsets = torch.arange(10.0).reshape(2, 5), torch.tensor([0, 2, 5])
    jagged = to_torchrec(scree.Array(values, offsets, ragged_dim=1))
    assert torch.equal(jagged.values(), values.T)
    assert jagged.values().data_ptr() == values.data_ptr()
    jagged = to_torchrec(scree.Array(values, offsets[:2] * 0 + torch.tensor([0, 1]), tail=True))
    assert jagged.values().tolist() == values[:1].tolist()


@pytest.mark.usefixtures("torchrec")
def test_gradients_flow_both_ways():
    values = torch.ones(3, requires_grad=True)
    from_torchrec(to_torchrec(scree.from_lengths(values, [1, 2]) * 2)).values.sum().backward()
    assert values.grad.tolist() == [2, 2, 2]


def test_weights_are_refused_with_the_mend():
    jagged = JaggedTensor(torch.ones(3), torch.ones(3), offsets=torch.tensor([0, 1, 3]))
    with pytest.raises(scree.ShapeError, match=r"jagged has weights.*scree\.from_cu_seqlens\(x, jagged\.offsets\(\)\)"):
        from_torchrec(jagged)
    assert scree.from_cu_seqlens(jagged.weights_or_none(), jagged.offsets()).lengths.tolist() == [1, 2]


def test_other_objects_are_refused():
    with pytest.raises(scree.ArgumentTypeError, match=r"must have the methods values\(\) and offsets\(\).*got list"):
        from_torchrec([1, 2])
    with pytest.raises(scree.ArgumentTypeError, match=r"got a Tensor$"):
        from_torchrec(torch.ones(2))
    nested = torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged)
    with pytest.raises(scree.ArgumentTypeError, match=r"use scree\.bridges\.from_torch_nested"):
        from_torchrec(nested)
    with pytest.raises(scree.ArgumentTypeError, match=r"a batch for each key; take one, jagged\[key\]"):
        from_torchrec({"a": 1})
    with pytest.raises(scree.ArgumentTypeError, match=r"arr must be a scree\.Array, got Tensor"):
        to_torchrec(torch.ones(2))


def test_without_torchrec_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchrec", None)
    with pytest.raises(
        scree.BackendNotInstalledError, match=r"to_torchrec needs torchrec, .*\n    pip install torchrec"
    ):
        to_torchrec(scree.from_lengths(torch.ones(3), [1, 2]))
