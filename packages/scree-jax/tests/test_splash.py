"""Splash attention: its numbers by Pallas' interpreter, and that it compiles for TPUs as far as one gets without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import scree
from scree_core.dispatch import refusal
from scree_core.explain import prepared
from scree_jax.attention.splash import splash
from scree_jax.splash_overlay import SplashOverlay

LENGTHS = (30, 0, 7, 1, 90)
OPTIONS = {
    "causal": {"causal": True},
    "full": {},
    "window": {"window": (3, 2)},
    "causal_window": {"causal": True, "window": (5, -1)},
    "softcap": {"causal": True, "softcap": 2.0},
}


@pytest.fixture(autouse=True)
def on_cpu():
    """Interpret, and compare, on the CPU, where a product in float32 is one."""
    with jax.default_device(jax.devices("cpu")[0]):
        yield


def draw(heads, seed, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((sum(LENGTHS), heads, 128)).astype(dtype))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_numbers_are_those_of_the_blocks(options):
    q, k, v = draw(4, 0), draw(2, 1), draw(2, 2)
    arr = scree.from_lengths(q, LENGTHS)
    left, right = options.get("window", (-1, -1))
    given = {"window": (left, 0 if options.get("causal") else right), "softcap": options.get("softcap")}

    def with_splash(q, k, v):
        return splash(q, k, v, arr.segment_ids, batch=5, scale=128**-0.5, interpret=True, **given)

    def with_blocks(q, k, v):
        return scree.varlen_attention(*(arr.with_values(x) for x in (q, k, v)), **options).values

    def loss(attend):
        return jax.grad(lambda *x: (attend(*x) ** 2).sum(), (0, 1, 2))(q, k, v)

    np.testing.assert_allclose(with_splash(q, k, v), with_blocks(q, k, v), rtol=0, atol=5e-6)
    for got, expected in zip(loss(with_splash), loss(with_blocks), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_a_bad_row_spoils_no_other():
    arr = scree.from_lengths(draw(2, 0).at[31].set(jnp.nan), LENGTHS)
    out = splash(*(arr.values,) * 3, arr.segment_ids, batch=5, scale=1.0, window=(-1, 0), softcap=None, interpret=True)
    assert np.isnan(out).any(axis=(1, 2)).tolist() == [30 <= i < 37 for i in range(128)]


@pytest.mark.parametrize("dim", [64, 128])
def test_it_lowers_for_tpus(dim):
    def step(q, k, v, ids):
        def loss(*x):
            out = splash(*x, ids, batch=5, scale=0.1, window=(-1, 0), softcap=None)
            return out.astype(jnp.float32).sum()

        return jax.grad(loss, (0, 1, 2))(q, k, v)

    shapes = [jax.ShapeDtypeStruct((300, heads, dim), jnp.bfloat16) for heads in (4, 2, 2)]
    exported = export.export(jax.jit(step), platforms=["tpu"])(*shapes, jax.ShapeDtypeStruct((300,), jnp.int32))
    assert exported.mlir_module().count("tpu_custom_call") >= 3


@pytest.fixture
def on_tpu(monkeypatch):
    monkeypatch.setattr("scree_jax.splash_overlay.platform_of", lambda x: "tpu")


def reason(*arrays, **options):
    return refusal(SplashOverlay(), prepared("varlen_attention", *arrays, **options))


def test_it_says_why_not(on_tpu):
    x = scree.from_lengths(draw(2, 0, jnp.bfloat16), LENGTHS)
    other = scree.from_lengths(x.values, [0, 30, 7, 1, 90])
    assert reason(x, x, x, causal=True) is None
    assert "one layout" in reason(x, other, other)
    assert "in bfloat16, not in float32" in reason(*(x.astype("float32"),) * 3)
    assert "no sinks" in reason(x, x, x, sinks=jnp.ones(2))
    assert "log-sum-exp" in reason(x, x, x, return_lse=True)


def test_it_needs_a_tpu():
    x = jax.device_put(scree.from_lengths(draw(2, 0, jnp.bfloat16), LENGTHS), jax.devices("cpu")[0])
    assert reason(x, x, x) == "values are on cpu, need tpu"
