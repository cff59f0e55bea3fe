"""Ways between a ``scree.Array`` and other representations that need no framework."""

from scree_core.bridges.files import load, save
from scree_core.bridges.hf_flattened import from_hf_flattened, to_hf_flattened
from scree_core.bridges.hf_padded import from_hf_padded, to_hf_padded
from scree_core.bridges.jraph import from_jraph, to_jraph
from scree_core.bridges.numpy import to_numpy
from scree_core.bridges.pyg import from_pyg, to_pyg

__all__ = [
    "from_hf_flattened",
    "from_hf_padded",
    "from_jraph",
    "from_pyg",
    "load",
    "save",
    "to_hf_flattened",
    "to_hf_padded",
    "to_jraph",
    "to_numpy",
    "to_pyg",
]
