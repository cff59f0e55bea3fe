"""A backend over an array type that is nobody else's: it shows what core asks of arrays, and no more.

``LoopbackArray`` wraps a NumPy array and forwards exactly what the contract names: shape, dtype, ndim, the
operators and basic slicing. Core that slipped a NumPy function in would fail on it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from scree_core.backend import Backend
from scree_core.protocols import Namespace


class LoopbackArray:
    """A NumPy array that isn't one."""

    __slots__ = ("host",)
    __array_ufunc__ = None

    def __init__(self, host: np.ndarray) -> None:
        self.host = host

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    nbytes = property(lambda self: self.host.nbytes)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("a LoopbackArray doesn't turn into a NumPy array by itself")

    def __getitem__(self, index: Any) -> LoopbackArray:
        parts = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(part, (int, slice)) or part is Ellipsis for part in parts):
            raise TypeError(f"a LoopbackArray takes integers and slices, got {index!r}")
        return LoopbackArray(np.asarray(self.host[index]))

    def __reduce__(self) -> Any:
        return LoopbackArray, (self.host,)

    __hash__ = object.__hash__


def _operator(fn: Callable[..., Any], swap: bool = False) -> Callable[..., Any]:
    def method(self: LoopbackArray, *others: Any) -> Any:
        if any(not isinstance(other, (LoopbackArray, bool, int, float)) for other in others):
            return NotImplemented
        hosts = [self.host, *(unwrapped(other) for other in others)]
        return LoopbackArray(np.asarray(fn(*reversed(hosts)) if swap else fn(*hosts)))

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    _fn = getattr(operator, f"__{_name}__")
    setattr(LoopbackArray, f"__{_name}__", _operator(_fn))
    setattr(LoopbackArray, f"__r{_name}__", _operator(_fn, swap=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "abs", "invert"):
    setattr(LoopbackArray, f"__{_name}__", _operator(getattr(operator, f"__{_name}__")))


def unwrapped(x: Any) -> Any:
    """Return what a LoopbackArray holds, also inside lists and tuples; anything else as it is."""
    if isinstance(x, LoopbackArray):
        return x.host
    if isinstance(x, (list, tuple)):
        return type(x)(unwrapped(item) for item in x)
    return x


class _LoopbackNamespace:
    def __getattr__(self, name: str) -> Any:
        if name not in Namespace.__annotations__:
            raise AttributeError(f"{name!r} isn't in the namespace that core may use")
        found = getattr(np, name)
        if isinstance(found, type):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            hosts = {key: unwrapped(value) for key, value in kwargs.items()}
            return LoopbackArray(np.asarray(found(*unwrapped(args), **hosts)))

        return call


class LoopbackBackend(Backend[LoopbackArray]):
    """Core's defaults on ``LoopbackArray``."""

    name = "loopback"
    _namespace = _LoopbackNamespace()

    def owns(self, x: object) -> bool:
        """Tell whether ``x`` is a LoopbackArray."""
        return isinstance(x, LoopbackArray)

    @property
    def xp(self) -> Any:
        """The functions that core may use, and no others."""
        return self._namespace

    def from_numpy(self, a: np.ndarray, *, like: LoopbackArray | None = None) -> LoopbackArray:
        """Wrap the array."""
        return LoopbackArray(a)

    def to_numpy(self, x: LoopbackArray) -> np.ndarray:
        """Return what is wrapped."""
        return x.host

    def dtype(self, name: str) -> Any:
        """Return NumPy's dtype, or that of ``ml_dtypes``."""
        from scree_core.testing.truth import as_dtype

        return as_dtype(name)

    def version(self) -> str:
        """Return NumPy's version."""
        return np.__version__
