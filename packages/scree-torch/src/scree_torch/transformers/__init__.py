"""transformers' models on packed rows; ``scree.hf`` is the name for users.

Importing this imports no transformers; each function does when it needs it.
"""

from scree_torch.transformers.attention import scree_attention
from scree_torch.transformers.collator import PackedCollator
from scree_torch.transformers.loss import causal_lm_loss
from scree_torch.transformers.mask import scree_mask
from scree_torch.transformers.register import register

__all__ = ["PackedCollator", "causal_lm_loss", "register", "scree_attention", "scree_mask"]
