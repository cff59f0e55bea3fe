"""The conformance suite on CuPy's arrays, which need a GPU."""

import pytest

cupy = pytest.importorskip("cupy", reason="CuPy isn't installed")

from scree_core.array_api import backend_named  # noqa: E402
from scree_core.testing import BackendConformance  # noqa: E402


class TestCupy(BackendConformance):
    backend = type(backend_named("cupy"))
    devices = ("cuda",)
    dtypes = ("float64", "float32", "float16")

    def has_device(self, device):
        return cupy.cuda.is_available()

    def on_device(self, a, device):
        return self.plugin().from_numpy(a)
