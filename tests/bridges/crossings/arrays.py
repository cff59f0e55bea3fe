"""Array libraries, lists of their arrays, row numbers, and the ragged types that PyTorch itself has."""

import scree

from .crossing import Sides, crossing

b = scree.bridges


@crossing("NumPy", "there", "to_numpy", "numpy", source="torch")
def to_numpy(x, offsets):
    found = b.to_numpy(scree.Array(x, offsets))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("PyTorch", "there", "to_torch", "torch", "torch", "scree_torch")
def to_torch(x, offsets):
    found = b.to_torch(scree.Array(x, offsets))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("JAX", "there", "to_jax", "jax", "jax", "scree_jax", source="torch")
def to_jax(x, offsets):
    found = b.to_jax(scree.Array(x, offsets))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("MLX", "there", "to_mlx", "mlx", "mlx", "scree_mlx", source="torch")
def to_mlx(x, offsets):
    found = b.to_mlx(scree.Array(x, offsets))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("lists of arrays", "there", "scree.unpack", "torch", source="torch")
def unpack(x, offsets):
    return Sides((x, scree.unpack(scree.Array(x, offsets))[0]), (offsets, None))


@crossing("lists of arrays", "back", "scree.pack", "torch", source="torch")
def pack(x, offsets):
    first, second = x[:2], x[2:]
    found = scree.pack([first, second])
    return Sides((first, found.values), (None, found.offsets))


@crossing("segment ids", "there", "arr.segment_ids", "torch", source="torch")
def to_segment_ids(x, offsets):
    return Sides((x, None), (offsets, scree.Array(x, offsets).segment_ids))


@crossing("segment ids", "back", "scree.from_segment_ids", "torch", source="torch")
def from_segment_ids(x, offsets):
    ids = scree.Array(x, offsets).segment_ids
    found = scree.from_segment_ids(x, ids)
    return Sides((x, found.values), (ids, found.offsets))


@crossing("PyTorch's nested tensors", "there", "to_torch_nested", "torch", source="torch")
def to_torch_nested(x, offsets):
    nested = b.to_torch_nested(scree.Array(x, offsets))
    return Sides((x, nested.values()), (offsets, nested.offsets()))


@crossing("PyTorch's nested tensors", "back", "from_torch_nested", "torch", source="torch")
def from_torch_nested(x, offsets):
    import torch

    nested = torch.nested.nested_tensor_from_jagged(x, offsets)
    found = b.from_torch_nested(nested)
    return Sides((x, found.values), (nested.offsets(), found.offsets))


@crossing("PyTorch's packed sequences", "there", "to_packed_sequence", "torch", source="torch")
def to_packed_sequence(x, offsets):
    packed = b.to_packed_sequence(scree.Array(x, offsets))
    return Sides((x, packed.data), (offsets, packed.batch_sizes))


@crossing("PyTorch's packed sequences", "back", "from_packed_sequence", "torch", source="torch")
def from_packed_sequence(x, offsets):
    from torch.nn.utils.rnn import pack_sequence

    packed = pack_sequence(scree.unpack(scree.Array(x, offsets)), enforce_sorted=False)
    found = b.from_packed_sequence(packed)
    return Sides((packed.data, found.values), (packed.batch_sizes, found.offsets))
