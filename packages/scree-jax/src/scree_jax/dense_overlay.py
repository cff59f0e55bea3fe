"""Attention that can be differentiated in forward mode and more than once, for who asks for it."""

from __future__ import annotations

from typing import Any

import jax

from scree_core.layout import Layout
from scree_core.overlay import Overlay
from scree_jax.attention.dense import dense
from scree_jax.attention.entry import attend


class DenseOverlay(Overlay):
    """Attention through one matrix of all queries and keys: ``backend="jax.dense"``.

    For ``jax.jvp``, ``jax.hessian`` and gradients of gradients, which the blocked attention refuses. It holds
    ``heads * total_q * total_k`` scores, so it only runs where it is named.
    """

    name = "jax.dense"
    named_only = True

    def why_not(self, op: str, /, *args: Any, **kwargs: Any) -> str | None:
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
    ) -> tuple[jax.Array, jax.Array | None]:
        options = {"causal": causal, "scale": scale, "window": window, "softcap": softcap}
        return attend(dense, q, k, v, q_layout, k_layout, sinks=sinks, return_lse=return_lse, **options)
