"""Ways between a ``scree.Array`` and other representations that need no framework."""

from scree_core.bridges.flash_attn import flash_attn_kwargs
from scree_core.bridges.hf_padded import from_hf_padded, to_hf_padded
from scree_core.bridges.numpy import to_numpy

__all__ = ["flash_attn_kwargs", "from_hf_padded", "to_hf_padded", "to_numpy"]
