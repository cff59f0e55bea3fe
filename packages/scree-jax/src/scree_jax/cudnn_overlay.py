"""Attention on NVIDIA GPUs by cuDNN, where no gradient is taken."""

from __future__ import annotations

from typing import Any

import jax

from scree_core.layout import INT32_MAX, Layout
from scree_core.overlay import Overlay
from scree_core.registry import backend_of
from scree_jax.attention.cudnn import Rows, cudnn, missing
from scree_jax.attention.places import Places
from scree_jax.geometry import key_ranges
from scree_jax.platform import platform_of
from scree_jax.precision import HALF_DTYPES

LARGEST_HEAD = 256
"""The most features of a head that cuDNN takes on Hopper."""


class CudnnOverlay(Overlay):
    """``varlen_attention`` in half precision on Hopper and later."""

    name = "jax.cudnn"

    def why_not(self, op: str, /, *args: Any, **kwargs: Any) -> str | None:
        """Return why cuDNN can't run this call, or None where it can."""
        if op != "varlen_attention":
            return f"it has no {op}"
        return self._why_not(*args, **kwargs)

    def _why_not(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        q_layout: Layout[jax.Array],
        k_layout: Layout[jax.Array],
        *,
        causal: bool,
        window: tuple[int, int],
        softcap: float | None,
        sinks: jax.Array | None,
        return_lse: bool,
        **rest: Any,
    ) -> str | None:
        platform = platform_of(q)
        if platform not in ("gpu", "cuda"):
            return f"values are on {platform}, need cuda"
        if q.dtype not in HALF_DTYPES:
            return f"it computes float16 and bfloat16, not {q.dtype}"
        dims = q.shape[2], v.shape[2]
        if dims[0] != dims[1] or dims[0] % 8 or not 0 < dims[0] <= LARGEST_HEAD:
            return f"head_dim of q, k and v must be one multiple of 8 up to {LARGEST_HEAD}, not {dims[0]} and {dims[1]}"
        if causal and q_layout.same(k_layout) is not True:
            return "causal attention needs queries and keys on one layout: it aligns rows at their starts"
        if window != (-1, -1) or softcap is not None or sinks is not None:
            return "it takes no window, softcap and sinks"
        if return_lse:
            return "it returns no log-sum-exp"
        if q_layout.batch_size < 2:
            return "it needs two rows at least"
        if 0 in (q.shape[0], k.shape[0]) or max(q.size, k.size) > INT32_MAX:
            return "q, k and v must have between 1 and 2**31 - 1 numbers"
        if any(str(layout.offsets.dtype) != "int32" for layout in (q_layout, k_layout)):
            return "offsets must be int32"
        return missing()

    def version(self) -> str:
        return jax.__version__

    def varlen_attention(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        q_layout: Layout[jax.Array],
        k_layout: Layout[jax.Array],
        *,
        causal: bool,
        scale: float,
        window: tuple[int, int],
        softcap: float | None,
        sinks: jax.Array | None,
        return_lse: bool,
    ) -> tuple[jax.Array, None]:
        backend = backend_of(q)
        ids = backend.segment_ids(q_layout, q.shape[0]), backend.segment_ids(k_layout, k.shape[0])
        offsets = q_layout.offsets, k_layout.offsets
        places = Places(*key_ranges(*offsets, ids[0], causal=causal, window=window), *ids)
        return cudnn(q, k, v, Rows(places, *offsets), causal=causal, scale=scale), None
