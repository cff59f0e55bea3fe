"""The conformance suite on torch tensors."""

import contextlib

import pytest

torch = pytest.importorskip("torch")

from scree_core.testing import BackendConformance  # noqa: E402
from scree_torch.backend import TorchBackend  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),  # by torch.compile
    pytest.mark.filterwarnings("ignore:Flash Attention defaults to a non-deterministic"),  # see poisoned_memory
]


class TestTorch(BackendConformance):
    backend = TorchBackend
    devices = ("cpu", "cuda", "mps")
    dtypes = ("float64", "float32", "float16", "bfloat16")
    compiles = True

    def has_device(self, device):
        return torch.device(device).type == "cpu" or getattr(torch, device).is_available()

    def on_device(self, a, device):
        return self.plugin().from_numpy(a).to(device)

    def compiled(self, fn):
        # What can be traced counts here, so the graph is run as it is: test_compile.py goes through inductor too.
        torch.compiler.reset()
        return torch.compile(fn, fullgraph=True, dynamic=True, backend="eager")

    @contextlib.contextmanager
    def poisoned_memory(self):
        deterministic = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True, warn_only=True)  # fills fresh memory with NaN
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
