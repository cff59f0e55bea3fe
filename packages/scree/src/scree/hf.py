"""transformers' models on packed rows: ``scree.hf.register()``, then ``attn_implementation="scree"``.

Needs PyTorch and scree-torch. transformers is imported by what needs it.
"""

from __future__ import annotations

from scree.missing import not_installed

try:
    from scree_torch.transformers import *  # noqa: F403
    from scree_torch.transformers import __all__ as __all__
except ModuleNotFoundError as error:
    raise not_installed(error, "scree.hf", "PyTorch", "torch", "scree_torch", "torch,transformers") from error
