"""Which rows go together, so that batches of a fixed size hold as little padding as possible."""

from scree_core.packing.pack_lengths import pack_lengths
from scree_core.packing.packer import Packer, Piece
from scree_core.packing.result import Packing
from scree_core.packing.sampler import TokenBudgetBatchSampler

__all__ = ["Packer", "Packing", "Piece", "TokenBudgetBatchSampler", "pack_lengths"]
