"""The NumPy backend: built in, always there, and fast where NumPy allows."""

from scree_core.numpy_backend.backend import NumpyBackend

__all__ = ["NumpyBackend"]
