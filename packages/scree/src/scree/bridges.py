"""Ways between a ``scree.Array`` and other representations of a ragged batch.

Those that need an array library live in that library's package: the first use of one imports it, and where it isn't
installed, calling the bridge says what to install. Importing this module imports no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import scree_core.bridges as _core
from scree.missing import not_installed
from scree_core.arguments import check_array
from scree_core.array import Array
from scree_core.array_api import ArrayApiBackend
from scree_core.bridges import *  # noqa: F403
from scree_core.bridges.array_api import to_array_api
from scree_core.bridges.memory import check_copy, refuse_to_share
from scree_core.errors import ArgumentError
from scree_core.registry import load as _load_backend

if TYPE_CHECKING:
    from scree_jax.bridges import *  # noqa: F403
    from scree_mlx.bridges import *  # noqa: F403
    from scree_torch.bridges import *  # noqa: F403

_JAX = ("to_jax",)
_MLX = ("to_mlx",)
_TORCH = (
    "ServingBatch",
    "from_packed_sequence",
    "from_sglang",
    "from_torch_nested",
    "from_torchrec",
    "from_vllm",
    "from_xformers",
    "to_block_mask",
    "to_packed_sequence",
    "to_sglang",
    "to_torch",
    "to_torch_nested",
    "to_torchrec",
    "to_vllm",
    "to_xformers",
)
_PACKAGES = {
    **dict.fromkeys(_TORCH, ("torch", "PyTorch", "scree_torch")),
    **dict.fromkeys(_JAX, ("jax", "JAX", "scree_jax")),
    **dict.fromkeys(_MLX, ("mlx", "MLX", "scree_mlx")),
}
"""Of each bridge that isn't core's: the extra of scree, the library, and the package that has it."""

__all__ = [*_core.__all__, *_PACKAGES, "convert"]


def convert(arr: Array[Any], to: str, *, copy: bool | None = None) -> Array[Any]:
    """Return the same rows as arrays of another library.

    Parameters
    ----------
    arr : Array
        Of any library.
    to : str
        The library, by the name of its backend: ``"numpy"``, ``"torch"``, ``"jax"``, ``"mlx"``, that of any other that
        is installed, ``"cupy"``, or the module of one that follows the array API standard.
    copy : bool, optional
        True copies the values. None, the default, shares memory where neither library takes for immutable what the
        other may write, and copies else. False shares it, or raises.

    Returns
    -------
    Array
        ``to_numpy``, ``to_torch``, ``to_jax`` and ``to_mlx`` say what becomes of dtypes and offsets.

    Raises
    ------
    ArgumentError
        ``to`` is an overlay, which has no arrays of its own.
    BackendNotInstalledError
        The library, or scree's backend for it, isn't installed.
    ShapeError, UnsupportedError
        As those functions raise.

    Notes
    -----
    Gradients flow between tensors alone. Syncs a device. Arrays of libraries that follow the standard are made by
    DLPack, on the device of the values where they have it; those of other backends from NumPy's.

    Examples
    --------
    >>> import numpy as np, scree
    >>> arr = scree.from_lengths(np.arange(3.0), [1, 2])
    >>> scree.bridges.convert(arr, "numpy") is arr
    True
    """
    check_array(arr, "arr")
    check_copy(copy)
    if to == "numpy":
        return _core.to_numpy(arr, copy=copy)
    if to in ("torch", "jax", "mlx"):
        return __getattr__(f"to_{to}")(arr, copy=copy)
    if "." in str(to):
        raise ArgumentError(f"to={to!r} is an overlay, which has no arrays of its own: convert to {to.split('.')[0]!r}")
    backend = _load_backend(to)
    if isinstance(backend, ArrayApiBackend):
        return to_array_api(arr, backend, copy=copy)
    if backend is arr.backend and not copy:
        return arr
    if copy is False:
        raise refuse_to_share(arr.backend.name, to, f"arrays of {to} are made from NumPy's")
    host = _core.to_numpy(arr, copy=copy)
    values, offsets = backend.from_numpy(host.values), backend.from_numpy(host.offsets)
    bounds = {"max_length": arr.max_length, "min_length": arr.min_length}
    return Array(values, offsets, arr.ragged_dim, tail=arr.layout.tail, **bounds)


def __getattr__(name: str) -> Any:
    """Import the package that a bridge lives in; of one that isn't installed, return what says so when it is called."""
    if name not in _PACKAGES:
        raise AttributeError(f"module 'scree.bridges' has no attribute {name!r}")
    extra, library, package = _PACKAGES[name]
    try:
        found = getattr(import_module(f"{package}.bridges"), name)
    except ModuleNotFoundError as error:
        refusal = not_installed(error, f"scree.bridges.{name}", library, extra, package, extra)

        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise refusal.with_traceback(None)

        return refuse
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
