"""``scree`` re-exports core, and its own modules come when they are asked for."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

import scree
import scree_core


def test_every_name_of_core_is_one_of_scree():
    assert scree.__all__ == scree_core.__all__
    assert scree.__version__ == scree_core.__version__
    for name in scree_core.__all__:
        assert getattr(scree, name) is getattr(scree_core, name)


@pytest.mark.parametrize("name", ["bridges.to_numpy", "kernels.reference", "kernels.triton", "packing.Packer"])
def test_its_own_modules_are_attributes_without_an_import(name):
    code = f"import scree, sys; early = 'scree.' + {name!r}.split('.')[0] in sys.modules; scree.{name}; print(early)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(("name", "extra"), [("hf.register", "torch,transformers"), ("audit.leaks", "torch")])
def test_what_needs_pytorch_comes_with_it_or_says_what_to_install(name, extra):
    run = subprocess.run([sys.executable, "-c", f"import scree; scree.{name}"], capture_output=True, text=True)
    if find_spec("scree_torch") is None:
        assert f'pip install "scree[{extra}]"' in run.stderr
        assert "BackendNotInstalledError" in run.stderr
    else:
        assert run.returncode == 0, run.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'scree' has no attribute 'nonsense'"):
        scree.nonsense  # noqa: B018
