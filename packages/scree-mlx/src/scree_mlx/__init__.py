"""The MLX backend of scree: lazy ops and gradients on Apple GPUs, CUDA and CPUs.

MLX's transformations of functions know no ``scree.Array``; these do, and are otherwise those of ``mlx.core``:

* ``scree_mlx.grad`` and ``scree_mlx.value_and_grad``
* ``scree_mlx.compile``
* ``scree_mlx.vmap``

Importing this imports no MLX; scree loads ``scree_mlx.backend`` when it meets the first MLX array.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["compile", "grad", "value_and_grad", "vmap"]

if TYPE_CHECKING:
    from scree_mlx.compilation import compile
    from scree_mlx.differentiation import grad, value_and_grad
    from scree_mlx.mapping import vmap

_MODULES = {
    "compile": "compilation",
    "grad": "differentiation",
    "value_and_grad": "differentiation",
    "vmap": "mapping",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
