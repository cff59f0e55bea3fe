"""Everything that scree asks of a backend, asked of ours."""

from scree_toy import ToyBackend

from scree_core.testing import BackendConformance


class TestToy(BackendConformance):
    backend = ToyBackend
    dtypes = ("float64", "float32", "float16")
