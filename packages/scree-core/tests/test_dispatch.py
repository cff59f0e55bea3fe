"""Who runs a call: the argument, the block, the environment, the overlays, and what is said when none can."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

import scree_core as scree
from scree_core import dispatch, registry
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend


@pytest.fixture
def x():
    return scree.from_lengths(np.zeros((3, 2)), [1, 2])


class Toy(LoopbackBackend):
    """Served by name: the root module of ``LoopbackArray`` is ``scree_core``."""

    name = "scree_core"


# ------------------------------------------------------------------ overlays


def test_the_first_overlay_by_priority_runs_the_call(plugins, overlay, x):
    low, high = overlay("numpy.a", "varlen_softmax", rank=1), overlay("numpy.b", "varlen_softmax", rank=2)
    plugins({"numpy.a": low, "numpy.b": high})
    scree.varlen_softmax(x)
    assert (low.ran, high.ran) == ([], ["varlen_softmax"])


def test_an_overlay_that_gives_a_reason_is_passed_over(plugins, overlay, x):
    low = overlay("numpy.a", "varlen_softmax")
    high = overlay("numpy.b", "varlen_softmax", rank=1, reason="rows are too short")
    plugins({"numpy.a": low, "numpy.b": high})
    scree.varlen_softmax(x)
    assert (low.ran, high.ran) == (["varlen_softmax"], [])


def test_an_overlay_without_the_op_is_not_asked(plugins, overlay, x):
    fast = overlay("numpy.fast", "varlen_softmax")
    plugins({"numpy.fast": fast})
    scree.varlen_rmsnorm(x)
    assert fast.asked == []


def test_an_overlay_is_asked_with_what_its_method_would_receive(plugins, overlay, x):
    fast = overlay("numpy.fast", "varlen_sum")
    plugins({"numpy.fast": fast})
    scree.varlen_sum(x, empty=7)
    ((op, args, kwargs),) = fast.asked
    assert (op, kwargs) == ("varlen_sum", {"empty": 7.0})
    assert args[0] is x.values
    assert args[1] is x.layout


CONSTRUCTORS: dict[str, Callable[[scree.Array], object]] = {
    "pack": lambda x: scree.pack(list(x)),
    "to_padded": scree.to_padded,
    "from_padded": lambda x: scree.from_padded(np.zeros((2, 2)), np.ones((2, 2), bool)),
    "take_rows": lambda x: x[[1, 0]],
    "segment_ids": lambda x: x.segment_ids,
    "positions": lambda x: x.positions,
}


@pytest.mark.parametrize("op", CONSTRUCTORS)
def test_every_op_of_the_contract_may_be_overlaid(plugins, overlay, x, op):
    fast = overlay("numpy.fast", op)
    plugins({"numpy.fast": fast})
    CONSTRUCTORS[op](x)
    assert fast.ran == [op]


# ------------------------------------------------------------------ the backend argument


@pytest.mark.parametrize("name", ["numpy.a", "a"])
def test_a_named_overlay_runs_whatever_its_priority(plugins, overlay, x, name):
    low, high = overlay("numpy.a", "varlen_softmax"), overlay("numpy.b", "varlen_softmax", rank=9)
    plugins({"numpy.a": low, "numpy.b": high})
    scree.varlen_softmax(x, backend=name)
    assert (low.ran, high.ran) == (["varlen_softmax"], [])


def test_the_base_may_be_named_past_its_overlays(plugins, overlay, x):
    fast = overlay("numpy.fast", "varlen_softmax")
    plugins({"numpy.fast": fast})
    scree.varlen_softmax(x, backend="numpy")
    assert fast.ran == fast.asked == []


def test_a_named_overlay_that_gives_a_reason_fails_with_it(plugins, overlay, x):
    plugins({"numpy.fast": overlay("numpy.fast", "varlen_softmax", reason="values are on cpu, need cuda")})
    with pytest.raises(
        scree.UnsupportedError, match=r"^backend 'fast' can't run varlen_softmax: values are on cpu, need cuda$"
    ):
        scree.varlen_softmax(x, backend="fast")


def test_a_named_overlay_without_the_op_fails(plugins, overlay, x):
    plugins({"numpy.fast": overlay("numpy.fast", "varlen_softmax")})
    with pytest.raises(scree.UnsupportedError, match="backend 'fast' can't run varlen_sum: it has no varlen_sum"):
        scree.varlen_sum(x, backend="fast")


def test_a_named_backend_of_another_library_fails(plugins, x):
    plugins({"scree_core": Toy})
    with pytest.raises(
        scree.UnsupportedError,
        match="backend 'scree_core' can't run varlen_sum: it works on arrays of 'scree_core', "
        "these belong to 'numpy'; convert them, or name one of numpy",
    ):
        scree.varlen_sum(x, backend="scree_core")


def test_a_named_overlay_of_another_library_fails(plugins, overlay, x):
    plugins({"scree_core": Toy, "scree_core.fast": overlay("scree_core.fast", "varlen_sum")})
    with pytest.raises(scree.UnsupportedError, match=r"backend 'fast' can't run varlen_sum: .* arrays of 'scree_core'"):
        scree.varlen_sum(x, backend="fast")


@pytest.mark.parametrize(
    ("name", "mend"),
    [("torch", "torch"), ("triton", "torch,triton"), ("torch.triton", "torch,triton"), ("jax", "jax"), ("mlx", "mlx")],
)
def test_a_named_backend_that_is_missing_says_what_to_install(plugins, x, name, mend):
    with pytest.raises(scree.BackendNotInstalledError) as caught:
        scree.varlen_softmax(x, backend=name)
    assert str(caught.value) == (
        f'no scree backend {name!r} is installed.\n    pip install "scree[{mend}]"\nInstalled backends: numpy.'
    )


def test_a_named_backend_that_nobody_knows_lists_the_installed_ones(plugins, overlay, x):
    plugins({"numpy.fast": overlay("numpy.fast")})
    with pytest.raises(scree.BackendNotInstalledError) as caught:
        scree.varlen_softmax(x, backend="abacus")
    assert str(caught.value) == "no scree backend 'abacus' is installed.\nInstalled backends: numpy, numpy.fast."


@pytest.mark.parametrize(
    "call",
    [
        lambda x, b: scree.pack(list(x), backend=b),
        lambda x, b: scree.concat([x, x], backend=b),
        lambda x, b: scree.to_padded(x, backend=b),
        lambda x, b: scree.from_padded(np.zeros((2, 2)), np.ones((2, 2), bool), backend=b),
        lambda x, b: scree.varlen_layernorm(x, backend=b),
    ],
    ids=["pack", "concat", "to_padded", "from_padded", "varlen_layernorm"],
)
def test_naming_a_backend_means_that_one_or_an_error(plugins, overlay, x, call):
    plugins({"numpy.fast": overlay("numpy.fast")})
    call(x, "numpy")
    with pytest.raises(scree.UnsupportedError, match="backend 'fast' can't run"):
        call(x, "fast")


def test_arrays_of_different_libraries_are_named(plugins, x):
    plugins({"scree_core": Toy})
    with pytest.raises(
        scree.ShapeError,
        match=r"x and weight belong to different libraries: ndarray \(numpy\) and LoopbackArray \(scree_core\)",
    ):
        scree.varlen_rmsnorm(x, LoopbackArray(np.ones(2)))


# ------------------------------------------------------------------ use_backend


@pytest.fixture
def fast(plugins, overlay):
    made = overlay("numpy.fast", "varlen_softmax", reason=None)
    plugins({"numpy.fast": made, "numpy.other": overlay("numpy.other", "varlen_softmax", rank=5)})
    return made


def test_a_block_chooses_for_every_op_in_it(fast, x):
    with scree.use_backend("fast"):
        scree.varlen_softmax(x)
        with pytest.raises(scree.UnsupportedError):
            scree.varlen_sum(x)
    scree.varlen_sum(x)
    assert fast.ran == ["varlen_softmax"]


def test_blocks_nest_and_the_argument_is_stronger(fast, x):
    with scree.use_backend("fast"):
        with scree.use_backend("numpy"):
            scree.varlen_softmax(x)
            assert fast.ran == []
            scree.varlen_softmax(x, backend="fast")
            assert len(fast.ran) == 1
        scree.varlen_softmax(x)
    assert len(fast.ran) == 2


def test_an_error_inside_a_block_closes_it(fast, x):
    with pytest.raises(ZeroDivisionError), scree.use_backend("fast"):
        raise ZeroDivisionError
    assert dispatch.selected() is None
    assert dispatch._open_choices == 0


def test_a_block_may_decorate_a_function(fast, x):
    @scree.use_backend("fast")
    def run():
        scree.varlen_softmax(x)

    run(), run()
    assert len(fast.ran) == 2
    assert dispatch._open_choices == 0


@pytest.mark.parametrize("name", ["torch", "abacus", None])
def test_a_block_fails_on_entering_where_the_backend_is_missing(plugins, name):
    with pytest.raises(scree.BackendNotInstalledError, match="no scree backend"), scree.use_backend(name):
        pytest.fail("entered")
    assert dispatch._open_choices == 0


def test_threads_choose_for_themselves(fast, x):
    barrier, seen = threading.Barrier(2, timeout=10), {}

    def run(name):
        with scree.use_backend(name):
            barrier.wait()
            seen[name] = dispatch.selected()
            barrier.wait()

    threads = [threading.Thread(target=run, args=(name,)) for name in ("fast", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"fast": "fast", "other": "other"}
    assert dispatch.selected() is None


def test_tasks_choose_for_themselves(fast):
    async def run(name, mine, others):
        with scree.use_backend(name):
            mine.set()
            await others.wait()
            return dispatch.selected()

    async def main():
        a, b = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(run("fast", a, b), run("other", b, a))

    assert asyncio.run(main()) == ["fast", "other"]


def test_no_context_variable_is_read_while_no_block_is_open(monkeypatch, plugins, x):
    class Unreadable:
        def get(self):
            raise AssertionError("torch.compile can't trace this")

    monkeypatch.setattr(dispatch, "_chosen", Unreadable())
    scree.varlen_softmax(x)


# ------------------------------------------------------------------ SCREE_BACKEND


def run_python(code, **env):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True)


SOFTMAX = "import numpy as np, scree_core as s; s.varlen_softmax(s.from_lengths(np.zeros(3), [1, 2]))"


def test_the_environment_names_a_backend():
    assert run_python(SOFTMAX, SCREE_BACKEND="numpy").returncode == 0
    failed = run_python(SOFTMAX, SCREE_BACKEND="abacus")
    assert "BackendNotInstalledError: no scree backend 'abacus' is installed." in failed.stderr


def test_an_empty_environment_variable_names_nothing():
    assert run_python(SOFTMAX, SCREE_BACKEND="").returncode == 0


def test_a_block_is_stronger_than_the_environment(fast, monkeypatch, x):
    monkeypatch.setattr(dispatch, "ENVIRONMENT", "fast")
    scree.varlen_softmax(x)
    assert len(fast.ran) == 1
    with scree.use_backend("numpy"):
        scree.varlen_softmax(x)
    assert len(fast.ran) == 1


# ------------------------------------------------------------------ cost


def test_steady_dispatch_resolves_no_type_again(plugins, monkeypatch, x):
    scree.varlen_softmax(x)
    monkeypatch.setattr(registry, "_resolve", None)
    scree.varlen_softmax(x)
