"""Self-attention on TPUs by JAX's splash attention."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from scree_core.layout import Layout
from scree_core.overlay import Overlay
from scree_core.registry import backend_of
from scree_jax.attention.splash import splash
from scree_jax.platform import platform_of


class SplashOverlay(Overlay):
    """``varlen_attention`` where queries and keys lie on one layout, on a TPU."""

    name = "jax.splash"

    def why_not(self, op: str, /, *args: Any, **kwargs: Any) -> str | None:
        """Return why the kernel can't run this call, or None where it can."""
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
        sinks: jax.Array | None,
        return_lse: bool,
        **options: Any,
    ) -> str | None:
        platform = platform_of(q)
        if platform != "tpu":
            return f"values are on {platform}, need tpu"
        if q.dtype != jnp.bfloat16:
            return f"it computes in bfloat16, not in {q.dtype}"
        if q_layout.same(k_layout) is not True:
            return "queries and keys must lie on one layout"
        if sinks is not None:
            return "it takes no sinks"
        if return_lse:
            return "it returns no log-sum-exp that can be differentiated"
        if 0 in q.shape or 0 in v.shape:
            return "there is nothing to compute"
        return None

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
        ids = backend_of(q).segment_ids(q_layout, q.shape[0])
        window = (window[0], 0) if causal else window
        options: dict[str, Any] = {"scale": scale, "window": window, "softcap": softcap}
        return splash(q, k, v, ids, batch=q_layout.batch_size, **options), None
