"""The conformance suite on torch tensors."""

import contextlib

import pytest

torch = pytest.importorskip("torch")

from scree_core.testing import BackendConformance  # noqa: E402
from scree_torch.backend import TorchBackend  # noqa: E402


class TestTorch(BackendConformance):
    backend = TorchBackend
    devices = ("cpu", "cuda", "mps")
    dtypes = ("float64", "float32", "float16", "bfloat16")

    def has_device(self, device):
        return torch.device(device).type == "cpu" or getattr(torch, device).is_available()

    def on_device(self, a, device):
        return self.plugin().from_numpy(a).to(device)

    @contextlib.contextmanager
    def poisoned_memory(self):
        deterministic = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True, warn_only=True)  # fills fresh memory with NaN
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
