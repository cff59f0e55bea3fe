"""Making Arrays from what people have, and going back: all at the top level of ``scree``."""

from scree_core.construct.bucket import bucket, unbucket
from scree_core.construct.concat import concat
from scree_core.construct.like import empty_like, full_like, zeros_like
from scree_core.construct.offsets import from_cu_seqlens, from_lengths, from_segment_ids
from scree_core.construct.pack import pack, unpack
from scree_core.construct.padded import from_padded, to_padded

__all__ = [
    "bucket",
    "concat",
    "empty_like",
    "from_cu_seqlens",
    "from_lengths",
    "from_padded",
    "from_segment_ids",
    "full_like",
    "pack",
    "to_padded",
    "unbucket",
    "unpack",
    "zeros_like",
]
