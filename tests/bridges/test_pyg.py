"""Batches of PyTorch Geometric go over and back, and its own pooling agrees with scree's reductions."""

import pytest

geometric = pytest.importorskip("torch_geometric", reason="torch_geometric isn't installed")
torch = pytest.importorskip("torch", reason="PyTorch isn't installed")
pytest.importorskip("scree_torch", reason="scree-torch isn't installed")

from torch_geometric.data import Batch, Data, HeteroData  # noqa: E402
from torch_geometric.nn import global_add_pool  # noqa: E402

import scree  # noqa: E402
import scree.bridges  # noqa: E402

LENGTHS = [[2, 0, 1], [3], [0], [1, 1, 0]]


def batch_of(lengths, features=(3,), dtype=torch.float32):
    return Batch.from_data_list([Data(x=torch.randn(length, *features).to(dtype)) for length in lengths])


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("features", [(3,), (2, 3)])
def test_a_batch_goes_over_without_a_copy(lengths, features):
    data = batch_of(lengths, features)
    arr = scree.bridges.from_pyg(data)
    assert arr.values is data.x
    assert arr.offsets is data.ptr
    assert arr.lengths.tolist() == lengths
    for row, graph in zip(scree.unpack(arr), data.to_data_list(), strict=True):
        assert torch.equal(row, graph.x)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_an_array_becomes_a_batch(lengths):
    x = torch.randn(sum(lengths), 3)
    data = Batch(**scree.bridges.to_pyg(scree.from_lengths(x, lengths)))
    theirs = batch_of(lengths)
    assert data.num_graphs == len(lengths)
    assert data.x.data_ptr() == x.data_ptr()
    for name in ("ptr", "batch"):
        assert torch.equal(data[name], theirs[name])
        assert data[name].dtype == theirs[name].dtype


@pytest.mark.parametrize("lengths", LENGTHS)
def test_pooling_agrees(lengths):
    data = batch_of(lengths)
    ours = scree.varlen_sum(scree.bridges.from_pyg(data))
    torch.testing.assert_close(ours, global_add_pool(data.x, data.batch, size=len(lengths)))


def test_gradients_flow_both_ways():
    x = torch.ones(3, 2, requires_grad=True)
    parts = scree.bridges.to_pyg(scree.from_lengths(x, [2, 1]))
    pooled = scree.varlen_sum(scree.bridges.from_pyg(parts["x"] * 3, ptr=parts["ptr"]))
    pooled.sum().backward()
    assert (x.grad == 3).all()


def test_bfloat16_goes_over():
    assert scree.bridges.from_pyg(batch_of([1, 2], dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_batch_from_the_loader_goes_over():
    (data,) = geometric.loader.DataLoader([Data(x=torch.ones(n, 2)) for n in (2, 3)], batch_size=2)
    assert scree.bridges.from_pyg(data).lengths.tolist() == [2, 3]


def test_followed_and_typed_nodes_go_over_by_their_vectors():
    followed = Batch.from_data_list([Data(x_s=torch.ones(n, 2)) for n in (2, 3)], follow_batch=["x_s"])
    assert scree.bridges.from_pyg(followed.x_s, ptr=followed.x_s_ptr).lengths.tolist() == [2, 3]
    typed = HeteroData()
    typed["user"].x = torch.ones(2, 2)
    nodes = Batch.from_data_list([typed, typed])["user"]
    assert scree.bridges.from_pyg(nodes).lengths.tolist() == [2, 2]


def test_a_single_graph_and_a_typed_batch_are_refused():
    with pytest.raises(scree.ArgumentError, match="the Data has neither ptr nor batch, so it is one graph"):
        scree.bridges.from_pyg(Data(x=torch.ones(2, 3)))
    typed = HeteroData()
    typed["user"].x = torch.ones(2, 2)
    with pytest.raises(scree.ArgumentTypeError, match="node features x, got HeteroDataBatch without"):
        scree.bridges.from_pyg(Batch.from_data_list([typed, typed]))
