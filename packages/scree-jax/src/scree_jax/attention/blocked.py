"""Attention on any device in memory that grows with the total length alone: the default.

One program for a shape, whatever the offsets. Differentiable in reverse mode, once; ``dense`` has the other modes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from scree_jax.attention.backward import backward
from scree_jax.attention.forward import forward
from scree_jax.attention.isolation import finite, marks, spoiled
from scree_jax.attention.options import Options
from scree_jax.attention.places import Places


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked(q: jax.Array, k: jax.Array, v: jax.Array, places: Places, options: Options) -> tuple[jax.Array, jax.Array]:
    """Return the output ``(total_q, heads, head_dim_v)`` and the lse ``(total_q, heads)``, in the dtype of q."""
    return _run(q, k, v, places, options)[0]


def _run(q: jax.Array, k: jax.Array, v: jax.Array, places: Places, options: Options) -> Any:
    (k_lo, k_hi, q_ids, k_ids), batch = places, options.batch
    marked = marks(q_ids, batch, k.shape[1], q) + marks(k_ids, batch, k.shape[1], k, v)
    out, top, sums = forward(finite(q), finite(k), finite(v), k_lo, k_hi, options)
    lse = jnp.where(sums == 0, -jnp.inf, top + jnp.log(sums))
    results = spoiled(out, marked, q_ids), spoiled(lse, marked, q_ids)
    return results, (q, k, v, places, out, top, sums, marked)


def _pull(options: Options, kept: Any, cotangents: Any) -> Any:
    q, k, v, (k_lo, k_hi, q_ids, k_ids), out, top, sums, marked = kept
    d_out, d_lse = cotangents
    sees = sums > 0  # what sees nothing is a constant, whatever its cotangent is
    d_out, d_lse = jnp.where(sees[..., None], d_out, 0), jnp.where(sees, d_lse, 0)
    marked = marked + marks(q_ids, options.batch, k.shape[1], d_out, d_lse[..., None])
    d_out, d_lse, q, k, v = (finite(x) for x in (d_out, d_lse, q, k, v))
    dq, dk, dv = backward(d_out, d_lse, q, k, v, k_lo, k_hi, out, top, sums, options)
    return spoiled(dq, marked, q_ids), spoiled(dk, marked, k_ids), spoiled(dv, marked, k_ids), None


blocked.defvjp(_run, _pull)
