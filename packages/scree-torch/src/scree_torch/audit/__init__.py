"""Whether rows of a batch hear of each other in a model; ``scree.audit`` is the name for users."""

from scree_torch.audit.leaks import leaks
from scree_torch.audit.report import Leak, Origin, Report

__all__ = ["Leak", "Origin", "Report", "leaks"]
