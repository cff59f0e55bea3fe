"""When attention goes to cuDNN: each condition, on a machine that pretends to have it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax._src.cudnn import fused_attention_stablehlo

import scree
from scree_core.dispatch import refusal
from scree_core.explain import prepared
from scree_jax.attention import cudnn
from scree_jax.cudnn_overlay import CudnnOverlay

ANY_CALL = export.DisabledSafetyCheck.custom_call("__cudnn$fmhaSoftmax")


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setattr("scree_jax.cudnn_overlay.platform_of", lambda x: "gpu")
    monkeypatch.setattr("scree_jax.cudnn_overlay.missing", lambda: None)


@pytest.fixture
def x():
    return scree.from_lengths(jnp.ones((5, 4, 64), jnp.float16), [2, 3])


def reason(*arrays, **options):
    return refusal(CudnnOverlay(), prepared("varlen_attention", *arrays, **options))


def test_it_takes_half_precision_on_packed_rows(on_gpu, x):
    assert reason(x, x, x) is None
    assert reason(x, x, x, causal=True) is None
    grouped = x.with_values(x.values[:, :2])
    assert reason(x, grouped, grouped) is None


def test_it_says_why_not(on_gpu, x):
    other = scree.from_lengths(x.values, [3, 2])
    assert reason(x, other, other) is None
    assert "one layout" in reason(x, other, other, causal=True)
    assert "float16 and bfloat16, not float32" in reason(*(x.astype("float32"),) * 3)
    assert "not 60 and 60" in reason(*(x.with_values(x.values[..., :60]),) * 3)
    assert "not 64 and 32" in reason(x, x, x.with_values(x.values[..., :32]))
    assert "no window" in reason(x, x, x, window=(3, 0))
    assert "softcap" in reason(x, x, x, softcap=1.0)
    assert "sinks" in reason(x, x, x, sinks=jnp.ones(4))
    assert "no log-sum-exp" in reason(x, x, x, return_lse=True)
    assert "two rows" in reason(*(scree.from_lengths(x.values, [5]),) * 3)
    assert "between 1 and" in reason(*(scree.from_lengths(x.values[:0], [0, 0]),) * 3)


def test_it_needs_a_gpu(x):
    x = jax.device_put(x, jax.devices("cpu")[0])
    assert reason(x, x, x) == "values are on cpu, need cuda"


def test_it_looks_for_what_it_needs():
    cudnn.missing.cache_clear()
    lacking = cudnn.missing()
    if lacking is None:
        pytest.skip("this machine has it, and the conformance suite runs it")
    assert any(words in lacking for words in ("needs JAX 0.11", "doesn't offer it", "compute capability"))


@pytest.fixture
def cudnn_there(monkeypatch):
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda least: True)


@pytest.fixture
def values(x):
    return jnp.asarray(np.random.default_rng(0).standard_normal(x.values.shape), jnp.float16)


def with_cudnn(x, q, k, v):
    options = {"causal": True, "window": (-1, -1), "scale": 0.1, "softcap": None, "sinks": None, "return_lse": False}
    return CudnnOverlay().varlen_attention(q, k, v, x.layout, x.layout, **options)[0]


def with_blocks(x, *qkv):
    return scree.varlen_attention(*(x.with_values(v) for v in qkv), causal=True, scale=0.1, backend="jax").values


def test_its_gradient_is_that_of_the_blocks(cudnn_there, x, values):
    def gradients(attend):
        return jax.grad(lambda *qkv: attend(x, *qkv).astype(jnp.float32).sum(), (0, 1, 2))(values, values, values)

    for got, expected in zip(gradients(with_cudnn), gradients(with_blocks), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_program_that_runs_on_the_cpu_takes_the_blocks(cudnn_there, x, values):
    """Traced where cuDNN is, but for arrays that are elsewhere."""
    cpu = jax.devices("cpu")[0]
    got = jax.jit(with_cudnn)(*jax.device_put((x, values, values, values), cpu))
    np.testing.assert_array_equal(got, with_blocks(x, values, values, values))


def test_on_a_gpu_it_is_the_kernel_that_is_compiled(cudnn_there, x, values):
    exported = export.export(jax.jit(with_cudnn), platforms=["cuda"], disabled_checks=[ANY_CALL])(x, *(values,) * 3)
    assert "cudnn$fmha" in exported.mlir_module()
