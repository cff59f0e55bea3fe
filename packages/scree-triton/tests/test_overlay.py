"""The overlay: when it is asked, and what it answers."""

import importlib.util
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


def on_cuda():
    """Return a tensor that says it is on a CUDA device, which isn't needed to ask about it."""

    class Claims(torch.Tensor):
        device = SimpleNamespace(type="cuda")

    return torch.zeros(3).as_subclass(Claims)


def test_import_of_the_package_imports_neither_torch_nor_triton():
    code = "import sys, scree_triton; assert not {'torch', 'triton'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_overlay_does_not_import_triton():
    code = "import sys, scree_triton.overlay; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_platform_comes_first(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "darwin")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert overlay.why_not("varlen_attention", ON_CPU) == "Triton needs Linux, this is darwin"


def test_missing_triton_comes_second(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert overlay.why_not("varlen_attention", ON_CPU) == "Triton is not installed: pip install triton"


@pytest.fixture
def _with_triton(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(module.sys, "platform", "linux")


@pytest.mark.usefixtures("_with_triton")
def test_the_device_comes_third():
    assert overlay.why_not("varlen_attention", ON_CPU, sinks=None) == "values are on cpu, need cuda"
    assert overlay.why_not("pack", [on_cuda(), ON_CPU]) == "values are on cpu, need cuda"
    assert overlay.why_not("varlen_rmsnorm", on_cuda(), torch.ones(2, device="meta"), eps=1e-6) == (
        "values are on meta, need cuda"
    )


@pytest.mark.usefixtures("_with_triton")
def test_the_missing_kernel_comes_last():
    for op in OPS:
        assert overlay.why_not(op, on_cuda()) == f"scree-triton has no kernel for {op} yet"


def test_version_is_a_word_without_triton(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.importlib.metadata, "version", missing)
    assert overlay.version() == "not installed"


@pytest.mark.usefixtures("_with_triton")
def test_torch_runs_what_the_overlay_leaves_and_explain_says_why():
    q = scree.from_lengths(ON_CPU, [1, 2])
    assert str(scree.explain("varlen_attention", q, q, q)).splitlines() == [
        "varlen_attention: torch",
        "  torch.triton: values are on cpu, need cuda",
        "  torch: chosen",
    ]


@pytest.mark.usefixtures("_with_triton")
def test_asking_for_it_by_name_fails_with_the_reason():
    q = scree.from_lengths(ON_CPU, [1, 2])
    with pytest.raises(
        scree.UnsupportedError, match="'triton' can't run varlen_attention: values are on cpu, need cuda"
    ):
        scree.varlen_attention(q, q, q, backend="triton")
