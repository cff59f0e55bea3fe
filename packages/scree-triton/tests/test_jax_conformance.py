"""The conformance suite on the kernels for JAX arrays: on a GPU, and on the CPU by a stand-in for jax-triton."""

import pytest

jax = pytest.importorskip("jax")

from scree_core.testing import OverlayConformance  # noqa: E402
from scree_jax.backend import JaxBackend  # noqa: E402
from scree_triton.jax.library import not_installed, not_working  # noqa: E402
from scree_triton.jax.overlay import JaxTritonOverlay  # noqa: E402

pytestmark = [
    # The interpreter computes in NumPy, which warns of the NaN that cases are poisoned with.
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy"),
]


@pytest.mark.usefixtures("jax_interpreted")
class TestInterpreted(OverlayConformance):
    """Everything but jax-triton: the order of arguments, gradients, what is absent, and memory that isn't zeros."""

    backend = JaxBackend
    overlay = JaxTritonOverlay
    dtypes = ("float32", "float16", "bfloat16")

    @classmethod
    def dtypes_for(cls, case, *, few):
        return super().dtypes_for(case, few=True)  # halves are PyTorch's to try, on the same kernels


class TestOnGpu(OverlayConformance):
    backend = JaxBackend
    overlay = JaxTritonOverlay
    devices = ("cuda",)
    dtypes = ("float32", "float16", "bfloat16")
    compiles = True

    def has_device(self, device):
        return not_installed() is None and not_working() is None

    def on_device(self, a, device):
        return jax.device_put(self.plugin().from_numpy(a), jax.devices(device)[0])

    def compiled(self, fn):
        return jax.jit(fn)
