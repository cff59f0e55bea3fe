"""Ways between a ``scree.Array`` and PyTorch's own representations, and those of libraries built on it."""

from scree_torch.bridges.block_mask import to_block_mask
from scree_torch.bridges.nested import from_torch_nested, to_torch_nested
from scree_torch.bridges.packed_sequence import from_packed_sequence, to_packed_sequence
from scree_torch.bridges.serving import ServingBatch
from scree_torch.bridges.sglang import from_sglang, to_sglang
from scree_torch.bridges.torch import to_torch
from scree_torch.bridges.torchrec import from_torchrec, to_torchrec
from scree_torch.bridges.vllm import from_vllm, to_vllm
from scree_torch.bridges.xformers import from_xformers, to_xformers

__all__ = [
    "ServingBatch",
    "from_packed_sequence",
    "from_sglang",
    "from_torch_nested",
    "from_torchrec",
    "from_vllm",
    "from_xformers",
    "to_block_mask",
    "to_packed_sequence",
    "to_sglang",
    "to_torch",
    "to_torch_nested",
    "to_torchrec",
    "to_vllm",
    "to_xformers",
]
