"""The libraries that a run must have: named in SCREE_BRIDGED, they fail where they would be skipped."""

import os
from importlib.util import find_spec

import pytest

pytest.register_assert_rewrite("tests.bridges.rows")  # so that what they find unequal is shown

MODULES = {"torch-geometric": "torch_geometric", "fbgemm-gpu-cpu": "fbgemm_gpu", "tensorflow-cpu": "tensorflow"}
"""Of distributions whose module has another name."""

required = [name for name in os.environ.get("SCREE_BRIDGED", "").split(",") if name]
if missing := [name for name in required if find_spec(MODULES.get(name, name)) is None]:
    raise ImportError(f"SCREE_BRIDGED asks for what isn't installed here: pip install {' '.join(missing)}")
