"""The conformance suite on MLX arrays, evaluated eagerly and compiled."""

import pytest

mx = pytest.importorskip("mlx.core")

import scree_mlx  # noqa: E402
from scree_core.testing import BackendConformance  # noqa: E402
from scree_mlx.backend import MlxBackend  # noqa: E402

ON_CPU = mx.default_device().type == mx.cpu


class TestMlx(BackendConformance):
    """MLX has one memory; a run uses its default device, named here for ``--require-device``."""

    backend = MlxBackend
    devices = ("cpu",) if ON_CPU else ("metal",) if mx.metal.is_available() else ("cuda",)
    dtypes = ("float32", "float16", "bfloat16", *(("float64",) if ON_CPU else ()))
    defers = False  # mlx_array + arr raises a ValueError inside MLX
    compiles = True

    def has_device(self, device):
        return device in self.devices

    def compiled(self, fn):
        return scree_mlx.compile(fn)


@pytest.mark.skipif(not ON_CPU, reason="on a GPU nothing else runs in TestMlx")
class TestMlxOnRectangles(BackendConformance):
    """What runs on GPUs and on a Mac's CPU, where attention doesn't go through NumPy."""

    backend = MlxBackend
    dtypes = ("float32", "bfloat16")
    defers = False

    @pytest.fixture(autouse=True)
    def _native(self, monkeypatch):
        monkeypatch.setattr("scree_mlx.varlen_attention.blas_is_faster", lambda: False)
