"""`import scree` stays light: no framework, no test tools, few modules. Timings live in benchmarks/."""

import json
import os
import subprocess
import sys

import pytest

FRAMEWORKS = ("torch", "jax", "jaxlib", "mlx", "triton", "tensorflow")
TOOLS = ("pytest", "hypothesis", "importlib.metadata", "unittest", "doctest")
OURS = ("scree_torch", "scree_jax", "scree_mlx", "scree_triton", "scree_core.testing")

CODE = """
import json, sys
import numpy
before = set(sys.modules)
{code}
print(json.dumps([sorted(before), sorted(set(sys.modules) - before)]))
"""


def imported(code, **env):
    """Return the modules that Python and NumPy bring, and those that some code adds to them, in a fresh process."""
    run = subprocess.run(
        [sys.executable, "-c", CODE.format(code=code)], env={**os.environ, **env}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def check_light(modules):
    heavy = [name for name in modules if any(name == x or name.startswith(x + ".") for x in FRAMEWORKS + TOOLS + OURS)]
    assert not heavy, f"importing scree also imports {heavy}"


def test_importing_scree_alone_imports_no_core():
    _, new = imported("import scree")
    assert new == ["scree"]


def test_using_scree_imports_no_framework_and_no_test_tools():
    before, new = imported("import scree; scree.Array")
    check_light(new)
    check_light([name for name in before if not name.startswith("importlib")])  # else the line above shows nothing


def test_using_scree_imports_little():
    _, new = imported("import scree; scree.Array")
    ours = [name for name in new if name.split(".")[0] in ("scree", "scree_core")]
    others = set(new) - set(ours)
    assert len(ours) <= 80
    assert others <= {"__future__", "html", "html.entities", "contextvars", "_contextvars"}, sorted(others)


def test_importing_core_imports_nothing_of_the_front_door():
    _, new = imported("import scree_core")
    assert "scree" not in new


@pytest.mark.parametrize("name", [*FRAMEWORKS, "pytest", "hypothesis", "importlib.metadata", "scree_core.testing"])
def test_a_heavy_import_would_be_found(name, tmp_path):
    """The checks above can fail: with a stand-in for each framework, imported beside scree."""
    if "." not in name:
        (tmp_path / f"{name}.py").touch()
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    _, new = imported(f"import scree, {name}", PYTHONPATH=path)
    with pytest.raises(AssertionError, match=f"importing scree also imports .*{name}"):
        check_light(new)


def test_asking_for_a_missing_backend_imports_no_framework():
    code = """
import scree
try:
    scree.varlen_sum(scree.from_lengths(numpy.zeros(3), [1, 2]), backend="abacus")
except scree.BackendNotInstalledError:
    pass
"""
    _, new = imported(code)
    assert not [name for name in new if name.split(".")[0] in FRAMEWORKS]


def test_working_with_numpy_imports_no_other_backend():
    _, new = imported("import scree; scree.varlen_sum(scree.from_lengths(numpy.zeros(3), [1, 2]))")
    assert not [name for name in new if name.split(".")[0] in FRAMEWORKS + OURS]
