"""``scree.bridges`` offers every bridge, and imports no framework before one is crossed."""

import subprocess
import sys
import types

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


CALLS = {
    "to_torch": lambda: scree.bridges.to_torch(scree.from_lengths(np.zeros(3), [1, 2]), "cpu"),
    "to_torch_nested": lambda: scree.bridges.to_torch_nested(scree.from_lengths(np.zeros(3), [1, 2])),
    "from_torch_nested": lambda: scree.bridges.from_torch_nested("nested"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("missing", ["torch", "scree_torch"])
def test_a_missing_torch_says_what_to_install(name, missing, monkeypatch):
    _replace_torch_bridges(monkeypatch, ModuleNotFoundError(f"No module named {missing!r}", name=missing))
    with pytest.raises(scree.BackendNotInstalledError, match=f'no {missing}.\n    pip install "scree\\[torch\\]"'):
        CALLS[name]()


def test_a_broken_torch_is_not_taken_for_a_missing_one(monkeypatch):
    _replace_torch_bridges(monkeypatch, ModuleNotFoundError("No module named 'sympy'", name="sympy"))
    with pytest.raises(ModuleNotFoundError, match="sympy"):
        CALLS["to_torch"]()


@pytest.mark.parametrize("name", CALLS)
def test_a_torch_bridge_gets_the_arguments_and_gives_the_result(name, monkeypatch):
    bridges = types.SimpleNamespace(**dict.fromkeys(CALLS, lambda *arguments: arguments))
    monkeypatch.setattr(scree.bridges, "_torch_bridges", lambda: bridges)
    given = CALLS[name]()
    assert given == ("nested",) if name == "from_torch_nested" else isinstance(given[0], scree.Array)
    assert name != "to_torch" or given[1] == "cpu"


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


def _replace_torch_bridges(monkeypatch, error):
    """Let importing ``scree_torch.bridges`` raise an error, whatever is installed."""

    class Raising:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "scree_torch":
                raise error

    for name in [name for name in sys.modules if name.split(".")[0] == "scree_torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Raising(), *sys.meta_path])
