"""Variable-length batches as one typed value, across NumPy, PyTorch, JAX and MLX.

``import scree`` loads nothing but this file: the first name that is asked for brings in ``scree_core``, whose
names these all are, so that a program pays for it where it uses it.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scree import audit as audit
    from scree import bridges as bridges
    from scree import hf as hf
    from scree import kernels as kernels
    from scree import packing as packing
    from scree_core import *  # noqa: F403
    from scree_core import __all__ as __all__


_MODULES = ("audit", "bridges", "hf", "kernels", "packing")


def __getattr__(name: str) -> Any:
    """Import ``scree_core``, or a module of ``scree`` itself, when something of theirs is first asked for."""
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"scree.{name}")
    core = import_module("scree_core")
    if name not in core.__all__ and name != "__all__":
        raise AttributeError(f"module 'scree' has no attribute {name!r}")
    globals().update({public: getattr(core, public) for public in ("__all__", *core.__all__)})
    return globals()[name]


def __dir__() -> list[str]:
    return [*__getattr__("__all__"), *_MODULES]
