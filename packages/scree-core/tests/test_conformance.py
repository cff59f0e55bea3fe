"""The conformance suite on what core carries itself: NumPy, read-only NumPy, the strict array API, loopback."""

import contextlib

import numpy as np
import pytest

from scree_core.array_api import backend_named
from scree_core.numpy_backend import NumpyBackend
from scree_core.testing import BackendConformance
from scree_core.testing.loopback import LoopbackBackend

ALL = ("float64", "float32", "float16", "bfloat16")


class _NumpyConformance(BackendConformance):
    __test__ = False

    @contextlib.contextmanager
    def poisoned_memory(self):
        def poisoned(make):
            def call(*args, **kwargs):
                out = make(*args, **kwargs)
                out.fill(np.nan if out.dtype.kind == "f" else 77)
                return out

            return call

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(np, "empty", poisoned(np.empty))
            patch.setattr(np, "empty_like", poisoned(np.empty_like))
            yield


class TestNumpy(_NumpyConformance):
    __test__ = True
    backend = NumpyBackend
    dtypes = ALL


class ReadOnlyNumpyBackend(NumpyBackend):
    """Every array that the suite makes refuses to be written to."""

    def from_numpy(self, a, *, like=None):
        a = a.view()
        a.flags.writeable = False
        return a


class TestReadOnlyNumpy(_NumpyConformance):
    __test__ = True
    backend = ReadOnlyNumpyBackend


class TestArrayApiStrict(BackendConformance):
    """Core's defaults on arrays that refuse whatever the array API standard doesn't promise."""

    backend = type(backend_named("array_api_strict"))
    dtypes = ("float64", "float32")
    defers = False


class TestLoopback(BackendConformance):
    backend = LoopbackBackend
    dtypes = ALL
