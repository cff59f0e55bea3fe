"""One more logit in the denominator of each head's softmax."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def with_sinks(out: jax.Array, lse: jax.Array, sinks: jax.Array) -> jax.Array:
    """Leave the keys the share of the weights that the sink doesn't take.

    Parameters
    ----------
    out, lse : array of shape (total_q, heads, head_dim_v) and (total_q, heads)
        Of attention without the sinks.
    sinks : array of shape (heads,)

    Notes
    -----
    ``out * sum(exp(S)) / (exp(sink) + sum(exp(S))) = out * sigmoid(lse - sink)``.
    """
    nothing = jnp.isneginf(lse)
    # Not sigmoid, whose gradient takes the sink's weight as 1 - share: nothing is left of it where the sink is small.
    share = jnp.where(nothing, 0, jnp.exp(jax.nn.log_sigmoid(jnp.where(nothing, 0, lse) - sinks)))
    return out * share[..., None]
