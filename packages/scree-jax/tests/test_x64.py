"""The conformance suite in float64, which JAX has only where 64 bits were switched on before anything else."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

SUITE = Path(__file__).with_name("test_conformance.py")
CASES = "float64 and within_budget and not compiled"


@pytest.mark.skipif(jax.config.jax_enable_x64, reason="64 bits are on: test_conformance runs in float64 itself")
def test_float64_conforms():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", CASES, SUITE]
    ran = subprocess.run(command, env=os.environ | {"JAX_ENABLE_X64": "1"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout
