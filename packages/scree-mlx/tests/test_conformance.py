"""The conformance suite on MLX arrays, evaluated eagerly."""

import pytest

mx = pytest.importorskip("mlx.core")

from scree_core.testing import BackendConformance  # noqa: E402
from scree_mlx.backend import MlxBackend  # noqa: E402


class TestMlx(BackendConformance):
    """MLX has one memory; a run uses its default device, named here for ``--require-device``."""

    backend = MlxBackend
    devices = ("metal",) if mx.metal.is_available() else ("cpu",)
    dtypes = ("float32", "float16", "bfloat16")
    defers = False  # mlx_array + arr raises a ValueError inside MLX

    def has_device(self, device):
        return device == "cpu" or mx.metal.is_available()
