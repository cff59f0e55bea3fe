"""backends: the list of what is installed, in what state, with which ops."""

import numpy as np

import scree_core as scree
from scree_core.backend import OPS
from scree_core.testing.loopback import LoopbackBackend


def states():
    return {state.name: state for state in scree.backends()}


def test_known_backends_come_first_and_third_parties_last(plugins, overlay):
    plugins({"zoo": ImportError("x"), "ark": ImportError("x"), "numpy.fast": overlay("numpy.fast")})
    assert list(states())[:6] == ["numpy", "torch", "torch.triton", "jax", "jax.triton", "mlx"]
    assert set(list(states())[6:]) == {"ark", "zoo", "numpy.fast"}


def test_numpy_is_ok_and_has_every_op(plugins):
    numpy = states()["numpy"]
    assert (numpy.state, numpy.version, numpy.reason) == ("ok", np.__version__, None)
    assert set(numpy.ops) == set(OPS)
    assert numpy.ops["varlen_attention"] == "native"
    assert numpy.ops["varlen_layernorm"] == "default"


def test_what_is_not_installed_says_what_to_install(plugins):
    torch, triton = states()["torch"], states()["torch.triton"]
    assert torch == ("torch", "not installed", None, 'pip install "scree[torch]"', {})
    assert triton.reason == 'pip install "scree[torch,triton]"'


def test_an_overlay_without_its_backend_is_not_installed(plugins):
    plugins({"jax.triton": ImportError("No module named 'jax'")})
    assert states()["jax.triton"] == ("jax.triton", "not installed", None, 'pip install "scree[jax,triton]"', {})


def test_what_is_broken_says_why_and_hides_no_other(plugins):
    plugins({"torch": ImportError("libcudart.so.12: cannot open"), "loopback": LoopbackBackend})
    found = states()
    assert (found["torch"].state, found["torch"].reason) == ("broken", "ImportError: libcudart.so.12: cannot open")
    assert (found["loopback"].state, found["numpy"].state) == ("ok", "ok")


def test_a_plugin_for_another_contract_is_broken(plugins):
    class Old(LoopbackBackend):
        contract = 99

    plugins({"loopback": Old})
    assert states()["loopback"].state == "broken"
    assert "written for contract 99" in states()["loopback"].reason


def test_an_overlay_lists_the_ops_it_defines_alone(plugins, overlay):
    plugins({"numpy.fast": overlay("numpy.fast", "varlen_sum")})
    fast = states()["numpy.fast"]
    assert (fast.state, fast.version, fast.ops) == ("ok", "1.2", {"varlen_sum": "native"})


def test_an_overlay_named_after_no_module_is_listed_all_the_same(plugins):
    class Fast(scree.Overlay):
        name = "numpy.fast"

        def why_not(self, op, /, *args, **kwargs):
            return None

    plugins({"numpy.fast": Fast})
    assert states()["numpy.fast"].state == "ok"


def test_versions_tell_what_a_bug_report_needs():
    from importlib import import_module

    found = import_module("scree_core.backends").versions()
    assert set(found) == {"python", "platform", "numpy"}
    assert found["numpy"] == np.__version__
