"""The gradient of attention in NumPy, against the reference's."""

import itertools

import numpy as np
import pytest

from scree_core import reference
from scree_mlx.attention_blas import attention_gradients

BATCHES = {
    "cross": ((3, 0, 5, 2), (6, 4, 2, 0)),
    "blocks": ((150, 7), (150, 7)),
    "empty": ((0, 0), (0, 0)),
    "none": ((), ()),
}


@pytest.mark.parametrize("heads", [(4, 2), (2, 2)], ids=["grouped", "plain"])
@pytest.mark.parametrize("batch", BATCHES)
def test_gradients_are_those_of_the_reference(batch, heads):
    q_offsets, k_offsets = (np.concatenate([[0], np.cumsum(x)]).astype(np.int32) for x in BATCHES[batch])
    rng = np.random.default_rng(0)
    q = rng.standard_normal((q_offsets[-1], heads[0], 8))
    k = rng.standard_normal((k_offsets[-1], heads[1], 8))
    v = rng.standard_normal((k_offsets[-1], heads[1], 6))
    d_out, lse = rng.standard_normal((q.shape[0], heads[0], 6)), rng.standard_normal(q.shape[:2])
    for causal, window, softcap, sinks, d_lse in itertools.product(
        (False, True), ((-1, -1), (2, 1)), (None, 2.0), (None, rng.standard_normal(heads[0])), (None, lse)
    ):
        options = {"causal": causal, "scale": 0.3, "window": window, "softcap": softcap, "sinks": sinks}
        found = attention_gradients(d_out, d_lse, q, k, v, q_offsets, k_offsets, **options)
        expected = reference.varlen_attention_vjp(np, d_out, d_lse, q, k, v, q_offsets, k_offsets, **options)
        for name, got, want in zip(found._fields, found, expected, strict=True):
            if want is None:
                assert got is None
            else:
                np.testing.assert_allclose(got, want, atol=1e-12, err_msg=f"{name} with {options}")
