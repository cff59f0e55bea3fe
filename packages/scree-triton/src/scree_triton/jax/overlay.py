"""Attention on NVIDIA GPUs by Triton kernels, forward and backward, in front of JAX's own."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import jax

from scree_core.layout import INT32_MAX, Layout
from scree_core.overlay import Overlay
from scree_jax.platform import platform_of
from scree_triton.jax.library import not_installed, not_working

DTYPES = ("float16", "bfloat16", "float32")
WIDEST = 256
"""The largest head_dim that fits into a multiprocessor."""


class JaxTritonOverlay(Overlay):
    """``varlen_attention`` with every option, and its gradient."""

    name = "jax.triton"
    priority = 10

    def why_not(self, op: str, /, *args: Any, **kwargs: Any) -> str | None:
        """Return why no kernel runs this call: first what its user can mend, last what is missing here."""
        if op != "varlen_attention":
            return f"scree-triton has no kernel for {op} on JAX arrays"
        return _why_not(*args[:5])

    def version(self) -> str:
        """Return the version of jax-triton, or ``"not installed"``; doesn't import it."""
        try:
            return importlib.metadata.version("jax-triton")
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

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
        from scree_triton.jax.attention import attention
        from scree_triton.jax.given import Inputs, Options

        options = Options(causal, scale, window, softcap, return_lse, (q_layout.tail, k_layout.tail))
        return attention(Inputs(q, k, v, sinks, q_layout.offsets, k_layout.offsets), options=options)


def _why_not(
    q: jax.Array, k: jax.Array, v: jax.Array, q_layout: Layout[jax.Array], k_layout: Layout[jax.Array]
) -> str | None:
    if (reason := not_installed()) is not None:
        return reason
    platform = platform_of(q)
    if platform not in ("gpu", "cuda"):
        return f"values are on {platform}, need cuda"
    if str(q.dtype) not in DTYPES:
        return f"it computes float16, bfloat16 and float32, not {q.dtype}"
    if max(q.shape[2], v.shape[2]) > WIDEST:
        return f"head_dim must be at most {WIDEST}, not {max(q.shape[2], v.shape[2])}"
    if 0 in (q.size, k.size, v.size, q_layout.batch_size):
        return "there is nothing to compute"
    if max(q.shape[0], k.shape[0]) > INT32_MAX:
        return "there must be less than 2**31 elements"
    return not_working()
