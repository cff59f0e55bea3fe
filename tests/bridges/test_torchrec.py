"""TorchRec's own jagged tensors; fbgemm-gpu-cpu and torchrec aren't in any extra of scree."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("fbgemm_gpu", reason="fbgemm-gpu-cpu isn't installed")
pytest.importorskip("torchrec", reason="torchrec isn't installed")

from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor  # noqa: E402

import scree  # noqa: E402
from scree_torch.bridges import from_torchrec, to_torchrec  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("offsets", [[0, 2, 2, 5], [0, 0], [0, 4]], ids=str)
def test_nothing_is_copied_either_way(offsets, dtype):
    arr = scree.Array(torch.randn(offsets[-1], 2), torch.tensor(offsets, dtype=dtype))
    jagged = to_torchrec(arr)
    assert isinstance(jagged, JaggedTensor)
    assert [row.tolist() for row in jagged.to_dense()] == [row.tolist() for row in arr]
    assert torch.equal(jagged.lengths(), arr.lengths)
    back = from_torchrec(jagged)
    assert back.values is arr.values
    assert back.offsets is arr.offsets


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_lengths_alone_become_offsets(dtype):
    values = torch.arange(5)
    arr = from_torchrec(JaggedTensor(values, lengths=torch.tensor([2, 0, 3], dtype=dtype)))
    assert arr.values is values
    assert arr.offsets.tolist() == [0, 2, 2, 5]


def test_a_jagged_tensor_of_dense_ones_comes_over():
    rows = [torch.tensor([1.0, 2.0]), torch.tensor([]), torch.tensor([3.0])]
    arr = from_torchrec(JaggedTensor.from_dense(rows))
    assert [row.tolist() for row in arr] == [[1, 2], [], [3]]


def test_weights_are_refused():
    with pytest.raises(scree.ShapeError, match="jagged has weights"):
        from_torchrec(JaggedTensor(torch.ones(3), torch.ones(3), lengths=torch.tensor([1, 2])))


def test_keyed_ones_are_refused_and_each_of_theirs_is_taken():
    keyed = KeyedJaggedTensor(["a", "b"], torch.arange(6), lengths=torch.tensor([1, 2, 0, 3]))
    with pytest.raises(scree.ArgumentTypeError, match=r"KeyedJaggedTensor, which holds a batch for each key"):
        from_torchrec(keyed)
    assert [row.tolist() for row in from_torchrec(keyed["b"])] == [[], [3, 4, 5]]
    assert [row.tolist() for row in from_torchrec(keyed.to_dict()["a"])] == [[0], [1, 2]]
