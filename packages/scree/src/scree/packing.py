"""Which rows go together, so that batches of a fixed size hold as little padding as possible."""

from scree_core.packing import *  # noqa: F403
from scree_core.packing import __all__ as __all__
