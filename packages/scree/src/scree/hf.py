"""transformers' models on packed rows: ``scree.hf.register()``, then ``attn_implementation="scree"``.

Needs PyTorch and scree-torch. transformers is imported by what needs it.
"""

from __future__ import annotations

from scree_core.errors import BackendNotInstalledError

try:
    from scree_torch.transformers import *  # noqa: F403
    from scree_torch.transformers import __all__ as __all__
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] not in ("torch", "scree_torch"):
        raise  # installed, but broken
    raise BackendNotInstalledError(
        f"scree.hf needs PyTorch and scree-torch, but there is no {error.name}.\n"
        '    pip install "scree[torch,transformers]"'
    ) from error
