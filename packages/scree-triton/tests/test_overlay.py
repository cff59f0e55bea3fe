"""The overlay: when it is asked, and what it answers."""

import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import scree
from scree_core.backend import OPS
from scree_triton import overlay as module
from scree_triton.overlay import TritonOverlay

overlay = TritonOverlay()
ON_CPU = torch.zeros(3, 2, 4)


def on_cuda(dtype=torch.float32, head_dim=4):
    """Return a tensor that says it is on a CUDA device, which isn't needed to ask about it."""

    class Claims(torch.Tensor):
        device = SimpleNamespace(type="cuda")

    return torch.zeros(3, 2, head_dim, dtype=dtype).as_subclass(Claims)


def test_import_of_the_package_imports_neither_torch_nor_triton():
    code = "import sys, scree_triton; assert not {'torch', 'triton'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_overlay_does_not_import_triton():
    code = "import sys, scree_triton.overlay; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_platform_comes_first(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "darwin")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert module.why_missing() == "Triton needs Linux, this is darwin"


def test_missing_triton_comes_second(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert module.why_missing() == "Triton is not installed: pip install triton"


@pytest.fixture
def _compiled(monkeypatch):
    """As where Triton is installed and nothing is interpreted."""
    monkeypatch.setattr(module, "_missing", None)
    monkeypatch.setattr(module, "INTERPRETED", False)
    monkeypatch.setattr(TritonOverlay, "named_only", False)


def test_what_is_missing_comes_before_the_device(monkeypatch):
    monkeypatch.setattr(module, "_missing", "no luck")
    assert overlay.why_not("varlen_attention", ON_CPU, ON_CPU, ON_CPU) == "no luck"


@pytest.mark.usefixtures("_compiled")
def test_the_device_comes_third(monkeypatch):
    assert overlay.why_not("varlen_attention", ON_CPU, ON_CPU, ON_CPU) == "values are on cpu, need cuda"
    assert overlay.why_not("pack", [ON_CPU]) == "values are on cpu, need cuda"
    monkeypatch.setattr(module, "_capability", lambda device: (7, 5))
    reason = "the GPU's compute capability is 7.5, need 8.0"
    assert overlay.why_not("varlen_attention", *(on_cuda(),) * 3) == reason


@pytest.fixture
def _on_a_gpu(monkeypatch, _compiled):
    monkeypatch.setattr(module, "_capability", lambda device: (9, 0))


@pytest.mark.usefixtures("_on_a_gpu")
def test_missing_kernels_come_next():
    for op in OPS:
        if not hasattr(overlay, op):
            assert overlay.why_not(op, on_cuda()) == f"scree-triton has no kernel for {op}"


@pytest.mark.usefixtures("_on_a_gpu")
def test_what_attention_does_not_take_comes_last():
    half, wide = on_cuda(torch.float16), on_cuda(torch.float16, head_dim=264)
    assert overlay.why_not("varlen_attention", half, half, half) is None
    assert overlay.why_not("varlen_attention", wide, wide, half) == "head_dim must be at most 256, not 264"
    assert overlay.why_not("varlen_attention", half, half, wide) == "head_dim must be at most 256, not 264"
    double = on_cuda(torch.float64)
    reason = overlay.why_not("varlen_attention", double, double, double)
    assert reason == "it computes float16, bfloat16 and float32, not float64"


@pytest.mark.usefixtures("_on_a_gpu")
def test_padding_takes_any_dtype_that_is_real(monkeypatch):
    monkeypatch.setattr(module, "is_real", lambda x: True)
    for op in ("to_padded", "from_padded"):
        assert overlay.why_not(op, on_cuda(torch.int64)) is None
        assert overlay.why_not(op, on_cuda(torch.complex64)) == "it copies no complex numbers"


@pytest.mark.usefixtures("_on_a_gpu")
def test_losses_are_computed_in_float64_too(monkeypatch):
    monkeypatch.setattr(module, "is_real", lambda x: True)
    labels = torch.zeros(3, dtype=torch.int64)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        assert overlay.why_not("varlen_cross_entropy", on_cuda(dtype), labels) is None
    assert overlay.why_not("varlen_softmax", on_cuda(torch.float64), None) is not None
    reason = overlay.why_not("varlen_cross_entropy", on_cuda(torch.float8_e4m3fn), labels)
    assert reason == "it computes float16, bfloat16, float32 and float64, not float8_e4m3fn"


@pytest.mark.usefixtures("_on_a_gpu")
def test_compiled_losses_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    reason = overlay.why_not("varlen_cross_entropy", on_cuda(), torch.zeros(3, dtype=torch.int64))
    assert reason == "torch.compile makes kernels of PyTorch's own"


@pytest.mark.usefixtures("_on_a_gpu")
def test_transforms_are_left_to_torch():
    half, reasons = on_cuda(torch.float16), []

    def ask(x):
        reasons.append(overlay.why_not("varlen_attention", half, half, half))
        return x.sum()

    torch.func.grad(ask)(torch.zeros(3))
    assert reasons == ["kernels run outside the transforms of torch.func"]


@pytest.mark.usefixtures("_compiled")
def test_torch_runs_what_the_overlay_leaves_and_explain_says_why():
    q = scree.from_lengths(ON_CPU, [1, 2])
    assert str(scree.explain("varlen_attention", q, q, q)).splitlines() == [
        "varlen_attention: torch",
        "  torch.triton: values are on cpu, need cuda",
        "  torch: chosen",
    ]


@pytest.mark.usefixtures("_compiled")
def test_asking_for_it_by_name_fails_with_the_reason():
    q = scree.from_lengths(ON_CPU, [1, 2])
    with pytest.raises(
        scree.UnsupportedError, match="'triton' can't run varlen_attention: values are on cpu, need cuda"
    ):
        scree.varlen_attention(q, q, q, backend="triton")


def test_the_interpreter_runs_what_names_it():
    """On any device, but for nobody who didn't ask: it is slow."""
    code = """
import torch, scree
q = scree.from_lengths(torch.zeros(3, 2, 4), [1, 2])
assert scree.explain("varlen_attention", q, q, q).chosen == "torch"
assert scree.explain("varlen_attention", q, q, q, backend="triton").chosen == "torch.triton"
assert scree.varlen_attention(q, q, q, backend="triton").values.shape == (3, 2, 4)
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TRITON_INTERPRET": "1"}, check=True)


def test_version_is_a_word_without_triton(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.importlib.metadata, "version", missing)
    assert overlay.version() == "not installed"
