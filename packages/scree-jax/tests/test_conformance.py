"""The conformance suite on JAX arrays, eagerly and jitted."""

import pytest

jax = pytest.importorskip("jax")

from scree_core.testing import BackendConformance, OverlayConformance  # noqa: E402
from scree_jax.attention.cudnn import missing  # noqa: E402
from scree_jax.backend import JaxBackend  # noqa: E402
from scree_jax.cudnn_overlay import CudnnOverlay  # noqa: E402
from scree_jax.dense_overlay import DenseOverlay  # noqa: E402


class OnDevices:
    """Where JAX puts arrays, and how it compiles functions of them."""

    compiles = True

    def has_device(self, device):
        try:
            return bool(jax.devices(device))
        except RuntimeError:
            return False

    def on_device(self, a, device):
        return jax.device_put(self.plugin().from_numpy(a), jax.devices(device)[0])

    def compiled(self, fn):
        return jax.jit(fn)


class TestJax(OnDevices, BackendConformance):
    backend = JaxBackend
    devices = ("cpu", "cuda", "tpu")
    dtypes = ("float32", "float16", "bfloat16", *(("float64",) if jax.config.jax_enable_x64 else ()))


class TestDense(OnDevices, OverlayConformance):
    """Attention that is differentiated by JAX alone."""

    backend = JaxBackend
    overlay = DenseOverlay
    dtypes = ("float32",)


if missing() is None:

    class TestCudnn(OnDevices, OverlayConformance):
        """Attention by cuDNN, in a process that has what it needs."""

        backend = JaxBackend
        overlay = CudnnOverlay
        devices = ("cuda",)
        dtypes = ("float32", "float16", "bfloat16")
