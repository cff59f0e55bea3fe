"""``scree.bridges`` offers every bridge, and imports no framework before one is crossed."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scree
import scree_core.bridges


@pytest.mark.parametrize("name", scree_core.bridges.__all__)
def test_the_bridges_of_core_are_the_same_functions(name):
    assert getattr(scree.bridges, name) is getattr(scree_core.bridges, name)


def test_importing_the_bridges_imports_no_framework():
    code = "import scree.bridges, sys; print(*{'torch', 'jax', 'mlx', 'scree_torch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


PACKAGES = {"scree_torch": "torch", "scree_jax": "jax", "scree_mlx": "mlx"}
"""The packages that have bridges of their own, and the library of each, which is the name of scree's extra too."""


@pytest.mark.parametrize("package", PACKAGES)
def test_the_bridges_of_a_package_are_the_same_functions(package):
    pytest.importorskip(PACKAGES[package])
    bridges = pytest.importorskip(f"{package}.bridges")
    for name in bridges.__all__:
        assert getattr(scree.bridges, name) is getattr(bridges, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_bridge_of_a_package_is_offered(package):
    source = Path(__file__).parents[2] / package.replace("_", "-") / "src" / package / "bridges" / "__init__.py"
    (names,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert {name for name, (_, _, there) in scree.bridges._PACKAGES.items() if there == package} == set(names)
    assert set(names) <= set(dir(scree.bridges))


@pytest.mark.parametrize(("name", "package"), [(n, there) for n, (_, _, there) in scree.bridges._PACKAGES.items()])
@pytest.mark.parametrize("which", ["library", "package"])
def test_a_missing_library_says_what_to_install(name, package, which, monkeypatch):
    library = PACKAGES[package]
    missing = package if which == "package" else library
    _replace(package, monkeypatch, ModuleNotFoundError(f"No module named {missing!r}", name=missing))
    bridge = getattr(scree.bridges, name)  # which inspectors do without calling it
    with pytest.raises(scree.BackendNotInstalledError, match=f'no {missing}.\n    pip install "scree\\[{library}\\]"'):
        bridge(None)


def test_a_broken_library_is_not_taken_for_a_missing_one(monkeypatch):
    _replace("scree_torch", monkeypatch, ModuleNotFoundError("No module named 'sympy'", name="sympy"))
    with pytest.raises(ModuleNotFoundError, match="sympy"):
        getattr(scree.bridges, "to_torch")  # noqa: B009


def test_an_unknown_bridge_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'to_abacus'"):
        getattr(scree.bridges, "to_abacus")  # noqa: B009


def test_rows_go_to_torch_and_back():
    torch = pytest.importorskip("torch")
    pytest.importorskip("scree_torch.bridges")
    arr = scree.from_lengths(np.arange(3.0), [1, 2])
    tensors = scree.bridges.to_torch(arr)
    nested = scree.bridges.to_torch_nested(tensors)
    back = scree.bridges.to_numpy(scree.bridges.from_torch_nested(nested))
    assert isinstance(tensors.values, torch.Tensor)
    assert np.array_equal(back.values, arr.values)
    assert np.array_equal(back.offsets, arr.offsets)


def _replace(package, monkeypatch, error):
    """Let importing a package raise an error, whatever is installed."""

    class Raising:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == package:
                raise error

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    for name in scree.bridges._PACKAGES:
        monkeypatch.delitem(vars(scree.bridges), name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Raising(), *sys.meta_path])
