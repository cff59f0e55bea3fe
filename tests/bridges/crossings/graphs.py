"""Batches of graphs, and the jagged tensors of recommenders."""

import scree

from .crossing import Sides, crossing

b = scree.bridges


@crossing("TorchRec", "there", "to_torchrec", "torchrec", "torchrec", "fbgemm_gpu", source="torch")
def to_torchrec(x, offsets):
    jagged = b.to_torchrec(scree.Array(x, offsets))
    return Sides((x, jagged.values()), (offsets, jagged.offsets()))


@crossing("TorchRec", "back", "from_torchrec", "torchrec", "torchrec", "fbgemm_gpu", source="torch")
def from_torchrec(x, offsets):
    from torchrec.sparse.jagged_tensor import JaggedTensor

    found = b.from_torchrec(JaggedTensor(x, offsets=offsets))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("FBGEMM", "back", "scree.from_cu_seqlens", "fbgemm-gpu-cpu", "fbgemm_gpu", source="torch")
def from_fbgemm(x, offsets):
    import fbgemm_gpu  # noqa: F401  # which registers the operators
    import torch

    padded = torch.ops.fbgemm.jagged_to_padded_dense(x, [offsets], [3])
    values, (same,) = torch.ops.fbgemm.dense_to_jagged(padded, [offsets])
    found = scree.from_cu_seqlens(values, same)
    return Sides((values, found.values), (same, found.offsets))


@crossing("PyTorch Geometric", "there", "to_pyg", "torch-geometric", "torch_geometric", source="torch")
def to_pyg(x, offsets):
    from torch_geometric.data import Batch

    batch = Batch(**b.to_pyg(scree.Array(x, offsets)))
    return Sides((x, batch.x), (offsets, batch.ptr))


@crossing("PyTorch Geometric", "back", "from_pyg", "torch-geometric", "torch_geometric", source="torch")
def from_pyg(x, offsets):
    from torch_geometric.data import Batch, Data

    batch = Batch.from_data_list([Data(x=row) for row in scree.unpack(scree.Array(x, offsets))])
    found = b.from_pyg(batch)
    return Sides((batch.x, found.values), (batch.ptr, found.offsets))


def graph_of(**parts):
    import jraph

    nothing = dict.fromkeys(("edges", "receivers", "senders", "globals", "n_edge"))
    return jraph.GraphsTuple(**nothing, **parts)


@crossing("jraph", "there", "to_jraph", "jraph", "jraph", source="jax")
def to_jraph(x, offsets):
    graph = graph_of(**b.to_jraph(scree.Array(x, offsets)))
    return Sides((x, graph.nodes), (offsets, graph.n_node))


@crossing("jraph", "back", "from_jraph", "jraph", "jraph", source="jax")
def from_jraph(x, offsets):
    graph = graph_of(nodes=x, n_node=offsets[1:] - offsets[:-1])
    found = b.from_jraph(graph)
    return Sides((x, found.values), (graph.n_node, found.offsets))
