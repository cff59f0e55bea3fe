"""Ways between a ``scree.Array`` and other representations of a ragged batch.

Those that need an array library live in that library's package: the first use of one imports it, and where it isn't
installed, calling the bridge says what to install. Importing this module imports no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import scree_core.bridges as _core
from scree_core.bridges import *  # noqa: F403
from scree_core.errors import BackendNotInstalledError

if TYPE_CHECKING:
    from scree_torch.bridges import *  # noqa: F403

_TORCH = (
    "from_packed_sequence",
    "from_torch_nested",
    "from_torchrec",
    "to_block_mask",
    "to_packed_sequence",
    "to_torch",
    "to_torch_nested",
    "to_torchrec",
)
_PACKAGES = dict.fromkeys(_TORCH, ("torch", "PyTorch", "scree_torch"))
"""Of each bridge that isn't core's: the extra of scree, the library, and the package that has it."""

__all__ = [*_core.__all__, *_PACKAGES]


def __getattr__(name: str) -> Any:
    """Import the package that a bridge lives in; of one that isn't installed, return what says so when it is called."""
    if name not in _PACKAGES:
        raise AttributeError(f"module 'scree.bridges' has no attribute {name!r}")
    extra, library, package = _PACKAGES[name]
    try:
        found = getattr(import_module(f"{package}.bridges"), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in (extra, package):
            raise  # installed, but broken

        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise BackendNotInstalledError(
                f"scree.bridges.{name} needs {library} and {package.replace('_', '-')}, but there is no {missing}.\n"
                f'    pip install "scree[{extra}]"'
            )

        return refuse
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
