"""``scree.kernels.triton``: raw tensors in and out, importable everywhere."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import scree
from scree.kernels import reference, triton

CU_SEQLENS = np.array([0, 2, 5], np.int32)
CALLS = {
    "varlen_attention_triton": lambda x: triton.varlen_attention_triton(x, x, x, CU_SEQLENS),
    "varlen_attention_triton_autograd": lambda x: triton.varlen_attention_triton_autograd(x, x, x, CU_SEQLENS),
    "varlen_rmsnorm_triton": triton.varlen_rmsnorm_triton,
    "varlen_layernorm_triton": triton.varlen_layernorm_triton,
}


class Buffer(np.ndarray):
    """A NumPy array that copies as a tensor does."""

    def copy_(self, other):
        self[...] = other
        return self


def buffer(*shape, dtype=np.float32):
    return np.full(shape, np.nan, dtype).view(Buffer)


@pytest.fixture
def qkv():
    rng = np.random.default_rng(0)
    q = rng.standard_normal((5, 4, 8), np.float32)
    return q, *rng.standard_normal((2, 5, 2, 8), np.float32)


@pytest.fixture
def overlay(monkeypatch):
    """Stand NumPy in for the kernels, and return the ops that asked for them."""
    asked = []

    def instead(op):
        run = getattr(scree, op)

        def recorded(*arguments, backend, **options):
            assert backend == "triton"
            asked.append(op)
            return run(*arguments, **options)

        return recorded

    for op in ("varlen_attention", "varlen_rmsnorm", "varlen_layernorm"):
        monkeypatch.setattr(triton.scree, op, instead(op))
    monkeypatch.setattr(triton, "TRITON_AVAILABLE", True)
    return asked


def test_importing_imports_neither_torch_nor_triton():
    code = "import scree.kernels.triton, sys; print(*{'torch', 'triton', 'scree_triton'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_availability_is_that_of_all_three_packages():
    assert triton.TRITON_AVAILABLE == all(find_spec(name) for name in ("torch", "triton", "scree_triton"))


@pytest.mark.parametrize("name", CALLS)
def test_without_triton_a_call_says_what_is_missing_and_what_to_install(name, monkeypatch):
    monkeypatch.setattr(triton, "TRITON_AVAILABLE", False)
    monkeypatch.setattr(triton, "find_spec", lambda package: None if package == "scree_triton" else object())
    expected = 'not installed: scree-triton.\n    pip install "scree\\[torch,triton\\]"'
    with pytest.raises(scree.BackendNotInstalledError, match=expected):
        CALLS[name](np.zeros((5, 2, 8), np.float32))


def test_attention_returns_the_raw_output_of_the_op(qkv, overlay):
    arrays = [scree.from_cu_seqlens(x, CU_SEQLENS) for x in qkv]
    for causal in (False, True):
        expected = reference.varlen_attention(*arrays, causal=causal).values
        ours = triton.varlen_attention_triton(*qkv, CU_SEQLENS, causal)
        assert np.allclose(ours, expected, atol=1e-6)
    assert overlay == ["varlen_attention"] * 2


def test_lse_comes_as_total_by_heads(qkv, overlay):
    out, lse = triton.varlen_attention_triton(*qkv, CU_SEQLENS, return_lse=True)
    assert out.shape == (5, 4, 8)
    assert lse.shape == (5, 4)


def test_buffers_are_filled_in_place_and_returned(qkv, overlay):
    expected = triton.varlen_attention_triton(*qkv, CU_SEQLENS, True, return_lse=True)
    out, lse = buffer(5, 4, 8), buffer(5, 4)
    returned = triton.varlen_attention_triton(*qkv, CU_SEQLENS, True, return_lse=True, out=out, lse_buffer=lse)
    assert returned[0] is out
    assert returned[1] is lse
    assert np.array_equal(out, expected[0])
    assert np.array_equal(lse, expected[1])


def test_out_alone_is_filled_and_returned(qkv, overlay):
    out = buffer(5, 4, 8)
    assert triton.varlen_attention_triton(*qkv, CU_SEQLENS, out=out) is out
    assert np.isfinite(out).all()


def test_an_lse_buffer_is_filled_even_where_lse_is_not_returned(qkv, overlay):
    lse = buffer(5, 4)
    assert triton.varlen_attention_triton(*qkv, CU_SEQLENS, lse_buffer=lse).shape == (5, 4, 8)
    assert np.isfinite(lse).all()


@pytest.mark.parametrize(
    ("buffers", "message"),
    [
        ({"out": buffer(5, 4, 7)}, r"out must have shape \(5, 4, 8\), got \(5, 4, 7\)"),
        ({"out": buffer(5, 4, 8, dtype=np.float64)}, "out must have the dtype of q, float32, got float64"),
        ({"lse_buffer": buffer(4, 5)}, r"lse_buffer must have shape \(5, 4\), got \(4, 5\)"),
    ],
)
def test_buffers_that_do_not_fit_are_refused_before_anything_runs(qkv, overlay, buffers, message):
    with pytest.raises(scree.ShapeError, match=message):
        triton.varlen_attention_triton(*qkv, CU_SEQLENS, **buffers)
    assert overlay == []


def test_keys_of_another_length_are_refused(qkv, overlay):
    with pytest.raises(scree.ShapeError, match="values have 4 elements along axis 0, the layout has 5"):
        triton.varlen_attention_triton(qkv[0], qkv[1][:4], qkv[2], CU_SEQLENS)


def test_autograd_is_attention_by_another_name(qkv, overlay):
    ours = triton.varlen_attention_triton_autograd(*qkv, CU_SEQLENS, True)
    assert np.array_equal(ours, triton.varlen_attention_triton(*qkv, CU_SEQLENS, causal=True))


def test_the_norms_take_and_give_raw_values(overlay):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((5, 8)), *rng.standard_normal((2, 8))
    arr = scree.from_lengths(x, [5])
    assert np.allclose(
        triton.varlen_rmsnorm_triton(x, weight, 1e-3), reference.varlen_rmsnorm(arr, weight, 1e-3).values
    )
    assert np.allclose(
        triton.varlen_layernorm_triton(x, weight, bias, 1e-3),
        reference.varlen_layernorm(arr, weight, bias, 1e-3).values,
    )
    assert overlay == ["varlen_rmsnorm", "varlen_layernorm"]


def test_a_refusal_of_the_kernels_comes_with_their_reason(monkeypatch):
    torch = pytest.importorskip("torch")
    overlay = pytest.importorskip("scree_triton.overlay").TritonOverlay
    refusal = "values are on cpu, need cuda"
    monkeypatch.setattr(overlay, "varlen_attention", None, raising=False)
    monkeypatch.setattr(overlay, "why_not", lambda self, op, /, *arguments, **options: refusal)
    x = torch.zeros(5, 2, 8)
    with pytest.raises(scree.UnsupportedError, match=f"backend 'triton' can't run varlen_attention: {refusal}"):
        triton.varlen_attention_triton(x, x, x, torch.tensor([0, 2, 5], dtype=torch.int32))
