"""The libraries that a run must have: named in SCREE_BRIDGED, they fail where they would be skipped."""

import os
from importlib import metadata

import pytest

pytest.register_assert_rewrite("tests.bridges.rows")  # so that what they find unequal is shown

required = [name for name in os.environ.get("SCREE_BRIDGED", "").split(",") if name]
if missing := [name for name in required if not any(metadata.distributions(name=name))]:
    raise ImportError(f"SCREE_BRIDGED asks for what isn't installed here: pip install {' '.join(missing)}")
