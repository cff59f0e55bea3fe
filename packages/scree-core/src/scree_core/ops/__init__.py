"""The ops: each public function checks its arguments, and hands them to the backend of its arrays."""

from scree_core.ops.repeat_rows import repeat_rows
from scree_core.ops.varlen_attention import varlen_attention
from scree_core.ops.varlen_cross_entropy import varlen_cross_entropy
from scree_core.ops.varlen_cumsum import varlen_cumsum
from scree_core.ops.varlen_layernorm import varlen_layernorm
from scree_core.ops.varlen_logsumexp import varlen_logsumexp
from scree_core.ops.varlen_max import varlen_max
from scree_core.ops.varlen_mean import varlen_mean
from scree_core.ops.varlen_min import varlen_min
from scree_core.ops.varlen_rmsnorm import varlen_rmsnorm
from scree_core.ops.varlen_rope import varlen_rope
from scree_core.ops.varlen_softmax import varlen_softmax
from scree_core.ops.varlen_sum import varlen_sum

__all__ = [
    "repeat_rows",
    "varlen_attention",
    "varlen_cross_entropy",
    "varlen_cumsum",
    "varlen_layernorm",
    "varlen_logsumexp",
    "varlen_max",
    "varlen_mean",
    "varlen_min",
    "varlen_rmsnorm",
    "varlen_rope",
    "varlen_softmax",
    "varlen_sum",
]
