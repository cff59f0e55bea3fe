"""Every op as a function of one Array, so that each transformation of JAX is tried on all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scree

LENGTHS = (3, 0, 5, 1, 70)


def table():
    """Return what rope turns by, made on the device: under jit, a table closed over is read back from it."""
    return jnp.sin(jax.lax.broadcasted_iota(jnp.float32, (128, 4), 0))


OPS = {
    "to_padded": lambda x: scree.to_padded(x, "left", max_length=80)[0],
    "from_padded": lambda x: scree.from_padded(*scree.to_padded(x, max_length=80), capacity=90).values,
    "repeat_rows": lambda x: scree.repeat_rows(scree.varlen_mean(x), like=x).values,
    "varlen_attention": lambda x: scree.varlen_attention(x, x, x, causal=True).values,
    "varlen_layernorm": lambda x: scree.varlen_layernorm(x).values,
    "varlen_rmsnorm": lambda x: scree.varlen_rmsnorm(x).values,
    "varlen_softmax": lambda x: scree.varlen_softmax(x).values,
    "varlen_rope": lambda x: scree.varlen_rope(x, table(), table()).values,
    "varlen_sum": lambda x: scree.varlen_sum(x),
    "varlen_mean": lambda x: scree.varlen_mean(x),
    "varlen_max": lambda x: scree.varlen_max(x, empty=0),
    "varlen_min": lambda x: scree.varlen_min(x, empty=0),
    "varlen_logsumexp": lambda x: scree.varlen_logsumexp(x, empty=0),
    "varlen_cumsum": lambda x: scree.varlen_cumsum(x).values,
    "varlen_cross_entropy": lambda x: scree.varlen_cross_entropy(
        x.with_values(x.values.reshape(x.total_length, -1)), x.segment_ids, reduction="row_mean_token_mean", num_items=3
    ),
}


@pytest.fixture(params=OPS)
def op(request):
    """Each op, as a function from an Array to an array."""
    return OPS[request.param]


@pytest.fixture(params=[name for name in OPS if name != "varlen_attention"])
def forward_op(request):
    """Each op that has a forward mode by default."""
    return OPS[request.param]


@pytest.fixture
def arr():
    values = np.random.default_rng(0).standard_normal((sum(LENGTHS), 2, 8)).astype(np.float32)
    return scree.from_lengths(jnp.asarray(values), LENGTHS)
