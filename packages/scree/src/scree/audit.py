"""Whether one row of a batch hears of another in a model: ``scree.audit.leaks(model, batch)``.

Needs PyTorch and scree-torch.
"""

from __future__ import annotations

from scree.missing import not_installed

try:
    from scree_torch.audit import *  # noqa: F403
    from scree_torch.audit import __all__ as __all__
except ModuleNotFoundError as error:
    raise not_installed(error, "scree.audit", "PyTorch", "torch", "scree_torch", "torch") from error
