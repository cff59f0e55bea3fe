"""Ways between a ``scree.Array`` and other representations that need no framework."""

from scree_core.bridges.arrow import from_arrow, to_arrow
from scree_core.bridges.awkward import from_awkward, to_awkward
from scree_core.bridges.flash_attn import flash_attn_kwargs
from scree_core.bridges.hf_padded import from_hf_padded, to_hf_padded
from scree_core.bridges.numpy import to_numpy
from scree_core.bridges.parquet import from_parquet
from scree_core.bridges.tf_ragged import from_tf_ragged, to_tf_ragged

__all__ = [
    "flash_attn_kwargs",
    "from_arrow",
    "from_awkward",
    "from_hf_padded",
    "from_parquet",
    "from_tf_ragged",
    "to_arrow",
    "to_awkward",
    "to_hf_padded",
    "to_numpy",
    "to_tf_ragged",
]
