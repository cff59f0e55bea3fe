"""Cross-entropy of each element: one program for a shape, in float32 or wider."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from scree_jax.precision import widened


@jax.jit
@jax.checkpoint  # the gradient starts from the logits as they are given, and keeps no log-probabilities
def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the loss of each element ``(total,)``: 0 for a label below 0, NaN for one that is no class."""
    vocab, counts = logits.shape[1], labels >= 0
    # Where nothing counts the logits may be anything, and their gradient is 0 only if they are left out here.
    logs = jax.nn.log_softmax(jnp.where(counts[:, None], widened(logits), 0), axis=1)
    own = jnp.take_along_axis(logs, jnp.clip(labels, 0, vocab - 1)[:, None], axis=1)[:, 0]
    return jnp.where(counts, -own * jnp.where(labels < vocab, 1, jnp.nan).astype(own.dtype), 0)
