"""The conformance suite on JAX arrays, eagerly."""

import pytest

jax = pytest.importorskip("jax")

from scree_core.testing import BackendConformance  # noqa: E402
from scree_jax.backend import JaxBackend  # noqa: E402


class TestJax(BackendConformance):
    backend = JaxBackend
    devices = ("cpu", "cuda", "tpu")
    dtypes = ("float32", "float16", "bfloat16")

    def has_device(self, device):
        try:
            return bool(jax.devices(device))
        except RuntimeError:
            return False

    def on_device(self, a, device):
        return jax.device_put(self.plugin().from_numpy(a), jax.devices(device)[0])
