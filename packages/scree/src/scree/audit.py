"""Whether one row of a batch hears of another in a model: ``scree.audit.leaks(model, batch)``.

Needs PyTorch and scree-torch.
"""

from __future__ import annotations

from scree_core.errors import BackendNotInstalledError

try:
    from scree_torch.audit import *  # noqa: F403
    from scree_torch.audit import __all__ as __all__
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] not in ("torch", "scree_torch"):
        raise  # installed, but broken
    raise BackendNotInstalledError(
        f'scree.audit needs PyTorch and scree-torch, but there is no {error.name}.\n    pip install "scree[torch]"'
    ) from error
