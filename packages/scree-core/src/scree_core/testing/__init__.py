"""The conformance suite: everything a backend must get right, for anyone's backend.

Adopt it by subclassing, in a test file of your own:

    from scree_core.testing import BackendConformance
    from scree_cupy import CupyBackend

    class TestCupy(BackendConformance):
        backend = CupyBackend
        devices, dtypes = ("cuda",), ("float32", "float16")

Load ``scree_core.testing.plugin`` as a pytest plugin for ``--require-device`` and the closing table. Needs
``pip install "scree-core[testing]"``.
"""

from scree_core.testing.budget import BudgetError, allowed_error
from scree_core.testing.case import Case, Dense, ErrorCase, Rows
from scree_core.testing.suite import BackendConformance, OverlayConformance

__all__ = [
    "BackendConformance",
    "BudgetError",
    "Case",
    "Dense",
    "ErrorCase",
    "OverlayConformance",
    "Rows",
    "allowed_error",
]
