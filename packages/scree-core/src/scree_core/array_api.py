"""A backend for any library that follows the array API standard, so that none needs a package of its own.

Core's defaults are written in the standard's functions, and run on such arrays as they are; what goes in and out is
told by DLPack. CuPy has the functions under their names, and counts among these libraries.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from scree_core.backend import Backend
from scree_core.dlpack import on_host
from scree_core.errors import UnsupportedError
from scree_core.protocols import Namespace


class ArrayApiBackend(Backend[Any]):
    """Core's defaults on the arrays of one library, which a subclass names."""

    namespace: ClassVar[Any]
    array_type: ClassVar[type]

    def array_types(self) -> tuple[type, ...]:
        return (self.array_type,)

    def owns(self, x: object) -> bool:
        return isinstance(x, self.array_type)

    @property
    def xp(self) -> Namespace:
        return self.namespace

    def from_numpy(self, a: np.ndarray, *, like: Any = None) -> Any:
        # A copy: whether the library would write to memory that NumPy lends isn't known.
        try:
            if like is None:
                return self.namespace.asarray(a, copy=True)
            return self.namespace.asarray(a, copy=True, device=like.device)
        except (TypeError, ValueError) as error:
            raise UnsupportedError(f"{self.name} makes no array of NumPy's {a.dtype}: {error}") from error

    def to_numpy(self, x: Any) -> np.ndarray:
        return np.from_dlpack(x) if on_host(x) else np.from_dlpack(x, device="cpu")

    def host_view(self, x: Any) -> np.ndarray | None:
        return self.to_numpy(x) if on_host(x) else None

    def may_cache(self, x: Any) -> bool:
        return True  # traced arrays have no DLPack, without which no library is taken

    def nbytes(self, x: Any) -> int:
        return int(np.dtype(self.dtype_name(x)).itemsize * np.prod(x.shape, dtype=np.int64))

    def beside(self, x: Any, y: Any) -> bool:
        return x.device == y.device


class CupyBackend(ArrayApiBackend):
    """The same for CuPy, which has a current device where the standard has an argument."""

    name = "cupy"

    def from_numpy(self, a: np.ndarray, *, like: Any = None) -> Any:
        if like is None:
            return super().from_numpy(a)
        with like.device:
            return super().from_numpy(a)

    def to_numpy(self, x: Any) -> np.ndarray:
        return x.get()  # waits for the device

    def synchronize(self, x: Any) -> None:
        for y in x if isinstance(x, (tuple, list)) else (x,):
            y.device.synchronize()


class _Cupy:
    """CuPy's functions under their array API names."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def arange(self, stop: int, *, dtype: Any, device: Any = None) -> Any:
        if device is None:
            return self._module.arange(stop, dtype=dtype)
        with device:
            return self._module.arange(stop, dtype=dtype)


def backend_for(array_type: type) -> ArrayApiBackend | None:
    """Return a backend for arrays of a type, or None where it doesn't follow the standard.

    The library is named by the root module of the type; its functions are in that module, or in one between.
    """
    parts = array_type.__module__.split(".")
    if not hasattr(array_type, "__dlpack__"):
        return None
    if parts[0] != "cupy" and not hasattr(array_type, "__array_namespace__"):
        return None
    for i in range(1, len(parts) + 1):
        module = sys.modules.get(".".join(parts[:i]))
        if module is not None and _is_complete(module):
            return _backend(parts[0], module, array_type)
    return None


def backend_named(name: str) -> ArrayApiBackend | None:
    """Return a backend for the library of that name, importing it, or None where none is installed that follows it."""
    if not (isinstance(name, str) and name.isidentifier()):
        return None
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None
    if (name != "cupy" and not hasattr(module, "__array_namespace_info__")) or not _is_complete(module):
        return None
    return _backend(name, module, module.ndarray if name == "cupy" else type(module.asarray(0)))


def _backend(name: str, module: ModuleType, array_type: type) -> ArrayApiBackend:
    base, namespace = (CupyBackend, _Cupy(module)) if name == "cupy" else (ArrayApiBackend, module)
    return type(base.__name__, (base,), {"name": name, "namespace": namespace, "array_type": array_type})()


def _is_complete(module: ModuleType) -> bool:
    return all(hasattr(module, name) for name in (*Namespace.__annotations__, "asarray"))
