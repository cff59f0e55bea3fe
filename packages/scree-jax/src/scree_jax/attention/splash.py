"""Self-attention by JAX's own kernel for TPUs, splash attention, with the row numbers as its segment ids.

The kernel visits every block that causal and window leave, whatever the rows: its time grows with the square of
the total length, its memory doesn't.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from scree_jax.attention.isolated import Kernel, isolated

LANES = 128
"""Lengths must be multiples of it."""
BLOCK = 512
"""Queries and keys that are taken at a time, at most."""


@partial(jax.jit, static_argnames=("batch", "scale", "window", "softcap", "interpret"))
def splash(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    ids: jax.Array,
    *,
    batch: int,
    scale: float,
    window: tuple[int, int],
    softcap: float | None,
    interpret: bool = False,
) -> jax.Array:
    """Attend within rows, ``(total, heads, dim)`` each; causal is a window of 0 to the right.

    Each query sees itself at least, so none is without a key. ``interpret`` runs the kernel on any device.
    """
    missing = -q.shape[0] % LANES
    q, k, v = (jnp.pad(x, ((0, missing), (0, 0), (0, 0))) for x in (q * jnp.asarray(scale, q.dtype), k, v))
    ids = jnp.pad(ids.astype(jnp.int32), (0, missing), constant_values=batch)
    make = partial(_kernel, q.shape[0], q.shape[1], window, softcap, interpret)
    return isolated(make, q, k, v, batch, ids, ids)[: q.shape[0] - missing]


def _kernel(
    total: int, heads: int, window: tuple[int, int], softcap: float | None, interpret: bool, ids: jax.Array
) -> Kernel:
    # Imported here: it takes a second, and nothing else needs it.
    from jax.experimental.pallas.ops.tpu import splash_attention as kernels

    left, right = (None if bound < 0 else bound for bound in window)
    unbounded = left is None and right is None
    mask = kernels.FullMask((total, total)) if unbounded else kernels.LocalMask((total, total), (left, right), 0)
    block = next(size for size in (BLOCK, BLOCK // 2, LANES) if total % size == 0)
    sizes = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    run = kernels.make_splash_mha_single_device(
        kernels.MultiHeadMask([mask] * heads),
        block_sizes=sizes,
        attn_logits_soft_cap=softcap,
        interpret=interpret,
    )
    segments = kernels.SegmentIds(q=ids, kv=ids)

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        out: Any = run(*(x.swapaxes(0, 1) for x in (q, k, v)), segment_ids=segments)
        return out.swapaxes(0, 1)

    return attend
