"""Ways between a ``scree.Array`` and PyTorch's own representations."""

from scree_torch.bridges.nested import from_torch_nested, to_torch_nested
from scree_torch.bridges.torch import to_torch

__all__ = ["from_torch_nested", "to_torch", "to_torch_nested"]
