"""Tests that need a GPU are skipped where there is none; kernels run on it, or in Triton's interpreter."""

import importlib.util
import os

import pytest

if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def pytest_collection_modifyitems(items):
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def device():
    """Return where kernels run."""
    import torch

    if torch.cuda.is_available() and not INTERPRETED:
        return "cuda"
    if INTERPRETED:
        return "cpu"
    pytest.skip("needs a CUDA device, or TRITON_INTERPRET=1")


@pytest.fixture
def offered_to_hopper():
    """Skip where kernels for Hopper aren't offered, whatever the GPU."""
    from scree_triton.attention.hopper import forward

    if not forward.triton.__version__.startswith(forward.VERSIONS):
        pytest.skip(f"the kernel isn't offered on Triton {forward.triton.__version__}")


@pytest.fixture
def on_hopper(monkeypatch, offered_to_hopper):
    """Let choices be made as on an H100."""
    from scree_triton.attention import configs
    from scree_triton.attention.hopper import forward

    monkeypatch.setattr(forward, "INTERPRETED", False)
    monkeypatch.setattr(configs, "architecture_of", lambda device: "sm_90")
    monkeypatch.setattr(forward, "_multiprocessors", lambda device: 132)


@pytest.fixture
def hopper_gpu(offered_to_hopper):
    """Skip where there is no GPU that kernels for Hopper run on."""
    import torch

    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a GPU of compute capability 9.0")


@pytest.fixture
def jax_interpreted(monkeypatch):
    """Let ``jax.triton`` run on the CPU, by Triton's interpreter in place of jax-triton, in memory full of NaN."""
    from scree_triton.jax import attention, launches, library, overlay

    if not INTERPRETED:
        pytest.skip("needs TRITON_INTERPRET=1")
    monkeypatch.setattr(overlay, "platform_of", lambda x: "gpu")
    monkeypatch.setattr(overlay, "not_installed", lambda: None)
    monkeypatch.setattr(overlay, "not_working", lambda: None)
    monkeypatch.setattr(attention, "PLATFORM", "cpu")
    monkeypatch.setattr(library, "capability", lambda: 80)
    monkeypatch.setattr(launches, "UPCAST", True)
    monkeypatch.setattr(library, "call", _interpret)


def _interpret(kernel, programs, *arguments, out, zeroed=()):
    import jax
    import numpy as np
    import torch

    numbered = [x if isinstance(x, jax.Array) else np.asarray(x) for x in arguments]

    def run(*arrays):
        given = iter(arrays)
        read = [_tensor(np.array(next(given))) if isinstance(x, jax.Array) else x.item() for x in numbered]
        written = [_tensor(np.zeros(x.shape, x.dtype)) for x in out]
        for i, x in enumerate(written):
            if i not in zeroed:
                x.fill_(float("nan") if x.is_floating_point() else -1)
        kernel.function[(programs,)](*read, *written, **kernel.constants)
        return [
            (x.view(torch.int16).numpy().view(like.dtype) if x.dtype == torch.bfloat16 else x.numpy())
            for x, like in zip(written, out, strict=True)
        ]

    arrays = [x for x in arguments if isinstance(x, jax.Array)]
    return jax.pure_callback(run, out, *arrays)


def _tensor(x):
    import torch

    return torch.from_numpy(x.view("int16")).view(torch.bfloat16) if x.dtype.name == "bfloat16" else torch.from_numpy(x)
