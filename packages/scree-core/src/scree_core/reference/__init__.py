"""The mathematics of every op, once, on any array namespace: the specification that all backends answer to.

Each function takes the namespace ``xp`` first, uses only the names of ``scree_core.protocols.Namespace``,
writes nothing in place, and computes in the dtype of its inputs. In float64 it is the truth; in a narrower
dtype it is the naive arithmetic that a backend's error is measured against. Ops that go row by row take their
offsets in host memory. Beside each differentiable op stands its vjp, written by hand:

    gradients = <op>_vjp(xp, *cotangents, *arguments of the op, **options of the op)

a tuple with one gradient for each array argument, None for an argument that is None.
"""

from __future__ import annotations

from scree_core.reference.geometry import key_ranges, positions, rows, segment_ids
from scree_core.reference.repeat_rows import repeat_rows, repeat_rows_vjp
from scree_core.reference.to_padded import to_padded, to_padded_vjp
from scree_core.reference.varlen_attention import varlen_attention, varlen_attention_vjp
from scree_core.reference.varlen_cross_entropy import varlen_cross_entropy, varlen_cross_entropy_vjp
from scree_core.reference.varlen_cumsum import varlen_cumsum, varlen_cumsum_vjp
from scree_core.reference.varlen_layernorm import varlen_layernorm, varlen_layernorm_vjp
from scree_core.reference.varlen_logsumexp import varlen_logsumexp, varlen_logsumexp_vjp
from scree_core.reference.varlen_max import varlen_max, varlen_max_vjp
from scree_core.reference.varlen_mean import varlen_mean, varlen_mean_vjp
from scree_core.reference.varlen_min import varlen_min, varlen_min_vjp
from scree_core.reference.varlen_rmsnorm import varlen_rmsnorm, varlen_rmsnorm_vjp
from scree_core.reference.varlen_rope import varlen_rope, varlen_rope_vjp
from scree_core.reference.varlen_softmax import varlen_softmax, varlen_softmax_vjp
from scree_core.reference.varlen_sum import varlen_sum, varlen_sum_vjp

__all__ = [
    "key_ranges",
    "positions",
    "repeat_rows",
    "repeat_rows_vjp",
    "rows",
    "segment_ids",
    "to_padded",
    "to_padded_vjp",
    "varlen_attention",
    "varlen_attention_vjp",
    "varlen_cross_entropy",
    "varlen_cross_entropy_vjp",
    "varlen_cumsum",
    "varlen_cumsum_vjp",
    "varlen_layernorm",
    "varlen_layernorm_vjp",
    "varlen_logsumexp",
    "varlen_logsumexp_vjp",
    "varlen_max",
    "varlen_max_vjp",
    "varlen_mean",
    "varlen_mean_vjp",
    "varlen_min",
    "varlen_min_vjp",
    "varlen_rmsnorm",
    "varlen_rmsnorm_vjp",
    "varlen_rope",
    "varlen_rope_vjp",
    "varlen_softmax",
    "varlen_softmax_vjp",
    "varlen_sum",
    "varlen_sum_vjp",
]
