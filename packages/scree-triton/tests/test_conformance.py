"""The conformance suite on the kernels: on a GPU, or in Triton's interpreter where that is asked for."""

import contextlib

import pytest

torch = pytest.importorskip("torch")

from scree_core.testing import OverlayConformance  # noqa: E402
from scree_torch.backend import TorchBackend  # noqa: E402
from scree_triton.overlay import INTERPRETED, TritonOverlay  # noqa: E402

pytestmark = [
    # The interpreter computes in NumPy, which warns of the NaN that cases are poisoned with.
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),  # by torch.compile
]


class Kernels(OverlayConformance):
    backend = TorchBackend
    overlay = TritonOverlay
    devices = ("cpu",) if INTERPRETED else ("cuda",)
    dtypes = ("float32", "float16", "bfloat16")

    def has_device(self, device):
        return device == "cpu" or torch.cuda.is_available()

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


class TestTriton(Kernels):
    compiles = True

    @classmethod
    def ops(cls):
        return ("varlen_attention",)

    def compiled(self, fn):
        torch.compiler.reset()
        return torch.compile(fn, fullgraph=True, dynamic=True, backend="eager")


class TestTritonEager(Kernels):
    """The ops that leave compiled code to PyTorch, which fuses its own with what is around."""

    @classmethod
    def ops(cls):
        return tuple(op for op in super().ops() if op != "varlen_attention")
