"""The core of scree: the type, the contract, dispatch, and the NumPy truth.

Users import ``scree``, which re-exports all of this; authors of backends import ``scree_core``.
"""

from scree_core.array import Array
from scree_core.backend import Backend
from scree_core.backends import BackendState, backends
from scree_core.construct import (
    bucket,
    concat,
    empty_like,
    from_cu_seqlens,
    from_lengths,
    from_padded,
    from_segment_ids,
    full_like,
    pack,
    to_padded,
    unbucket,
    unpack,
    zeros_like,
)
from scree_core.dispatch import use_backend
from scree_core.errors import (
    ArgumentError,
    ArgumentTypeError,
    BackendLoadError,
    BackendNotInstalledError,
    ScreeError,
    ShapeError,
    UnsupportedError,
)
from scree_core.explain import Explanation, explain
from scree_core.layout import Layout
from scree_core.ops import (
    repeat_rows,
    varlen_attention,
    varlen_cross_entropy,
    varlen_cumsum,
    varlen_layernorm,
    varlen_logsumexp,
    varlen_max,
    varlen_mean,
    varlen_min,
    varlen_rmsnorm,
    varlen_rope,
    varlen_softmax,
    varlen_sum,
)
from scree_core.overlay import Overlay
from scree_core.registry import preload
from scree_core.tune import TunedKernel, Tuning, tune

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "Array",
    "Backend",
    "BackendLoadError",
    "BackendNotInstalledError",
    "BackendState",
    "Explanation",
    "Layout",
    "Overlay",
    "ScreeError",
    "ShapeError",
    "TunedKernel",
    "Tuning",
    "UnsupportedError",
    "backends",
    "bucket",
    "concat",
    "empty_like",
    "explain",
    "from_cu_seqlens",
    "from_lengths",
    "from_padded",
    "from_segment_ids",
    "full_like",
    "pack",
    "preload",
    "repeat_rows",
    "to_padded",
    "tune",
    "unbucket",
    "unpack",
    "use_backend",
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
    "zeros_like",
]
