"""Attention by cuDNN, on rows as they lie packed; differentiated through ``blocked``.

JAX offers packed rows (``q_offsets``) in a private module alone, so this is the one file that touches it. Its
gradient asked for 82 to 98 GB on ragged batches (H100, jax 0.11.2), which is why it isn't used: where a gradient
is taken, the whole of attention runs as ``blocked``.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from scree_jax.attention.blocked import blocked
from scree_jax.attention.isolation import finite, marks, spoiled
from scree_jax.attention.options import Options
from scree_jax.attention.places import Places
from scree_jax.attention.tiles import LARGE
from scree_jax.precision import narrowed, widened

OLDEST = (0, 11)
"""Before this release JAX scaled the offsets of keys by the number of query heads: wrong for grouped heads."""


@cache
def missing() -> str | None:
    """Return what this process lacks for the kernel, or None; looks once."""
    if jax.__version_info__ < OLDEST:
        return f"it needs JAX {OLDEST[0]}.{OLDEST[1]} or later, this is {jax.__version__}"
    try:
        from jax._src.cudnn import fused_attention_stablehlo as kernels

        kernels.check_cudnn_version()
        hopper = kernels.check_compute_capability("9.0")
    except Exception as error:
        return f"this JAX doesn't offer it: {type(error).__name__}: {error}"
    return None if hopper else "it needs a GPU of compute capability 9.0 or later"


class Rows(NamedTuple):
    """Where the rows lie, which no gradient is taken of."""

    places: Places
    q_offsets: jax.Array
    k_offsets: jax.Array


@partial(jax.jit, static_argnames=("causal", "scale"))
def cudnn(q: jax.Array, k: jax.Array, v: jax.Array, rows: Rows, *, causal: bool, scale: float) -> jax.Array:
    """Return the output ``(total_q, heads, head_dim)`` in the dtype of q, which is half precision."""
    return _cudnn(q, k, v, rows, causal, scale)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, rows: Rows, causal: bool, scale: float) -> jax.Array:
    places, batch, kv_heads = rows.places, rows.q_offsets.shape[0] - 1, k.shape[1]
    # A jitted function may run elsewhere than where it was traced, on the CPU of a machine with a GPU.
    out = lax.platform_dependent(
        *(finite(x) for x in (q, k, v)),
        rows,
        cuda=partial(_kernel, causal=causal, scale=scale),
        default=partial(_blocks, scale=scale),
    )
    # What lies in no row, and what sees nothing, is left as it was.
    out = jnp.where((places.k_lo < places.k_hi)[:, None, None], out, 0)
    marked = marks(places.q_ids, batch, kv_heads, q) + marks(places.k_ids, batch, kv_heads, k, v)
    return spoiled(out, marked, places.q_ids)


def _kernel(q: jax.Array, k: jax.Array, v: jax.Array, rows: Rows, *, causal: bool, scale: float) -> jax.Array:
    from jax._src.cudnn import fused_attention_stablehlo as kernels

    return kernels.dot_product_attention(
        *(x[None] for x in (q, k, v)),
        q_seqlen=jnp.diff(rows.q_offsets)[None],
        kv_seqlen=jnp.diff(rows.k_offsets)[None],
        q_offsets=rows.q_offsets[None],
        kv_offsets=rows.k_offsets[None],
        scale=scale,
        mask_type=kernels.MaskType.PADDING_CAUSAL if causal else kernels.MaskType.PADDING,
    )[0]


def _blocks(q: jax.Array, k: jax.Array, v: jax.Array, rows: Rows, *, scale: float) -> jax.Array:
    wide = (widened(x) for x in (q, k, v))
    options = Options(rows.q_offsets.shape[0] - 1, scale, None, LARGE)
    return narrowed(blocked(*wide, rows.places, options)[0], q)


def _run(q: jax.Array, k: jax.Array, v: jax.Array, rows: Rows, causal: bool, scale: float) -> Any:
    return jax.vjp(lambda q, k, v: _blocks(q, k, v, rows, scale=scale), q, k, v)


def _pull(causal: bool, scale: float, pull: Any, d_out: jax.Array) -> Any:
    return *pull(d_out), None


_cudnn.defvjp(_run, _pull)
