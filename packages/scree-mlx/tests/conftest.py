"""Where MLX's tests run, and how precisely."""

import os

import pytest

os.environ.setdefault("MLX_ENABLE_TF32", "0")  # read when MLX is imported; on CUDA float32 is to mean float32


@pytest.fixture
def on_cpu():
    """Compute on the CPU, whatever MLX's default is here."""
    import mlx.core as mx

    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)
