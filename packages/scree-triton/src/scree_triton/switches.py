"""Environment variables that switch something on."""

from __future__ import annotations

import os


def is_on(name: str) -> bool:
    """Tell whether an environment variable says yes, in one of the ways that Triton knows; unset is no."""
    return os.environ.get(name, "").lower() in ("1", "true", "on", "yes", "y")
