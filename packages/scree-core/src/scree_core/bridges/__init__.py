"""Ways between a ``scree.Array`` and other representations that need no framework."""

from scree_core.bridges.arrow import from_arrow, to_arrow
from scree_core.bridges.awkward import from_awkward, to_awkward
from scree_core.bridges.files import load, save
from scree_core.bridges.flash_attn import flash_attn_kwargs
from scree_core.bridges.hf_flattened import from_hf_flattened, to_hf_flattened
from scree_core.bridges.hf_padded import from_hf_padded, to_hf_padded
from scree_core.bridges.jraph import from_jraph, to_jraph
from scree_core.bridges.numpy import to_numpy
from scree_core.bridges.parquet import from_parquet
from scree_core.bridges.pyg import from_pyg, to_pyg
from scree_core.bridges.tf_ragged import from_tf_ragged, to_tf_ragged

__all__ = [
    "flash_attn_kwargs",
    "from_arrow",
    "from_awkward",
    "from_hf_flattened",
    "from_hf_padded",
    "from_jraph",
    "from_parquet",
    "from_pyg",
    "from_tf_ragged",
    "load",
    "save",
    "to_arrow",
    "to_awkward",
    "to_hf_flattened",
    "to_hf_padded",
    "to_jraph",
    "to_numpy",
    "to_pyg",
    "to_tf_ragged",
]
