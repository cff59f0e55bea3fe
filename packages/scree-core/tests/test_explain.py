"""explain: who would run a call, and why the others wouldn't, without running it."""

import numpy as np
import pytest

import scree_core as scree
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend


@pytest.fixture
def x():
    return scree.from_lengths(np.zeros((3, 2)), [1, 2])


@pytest.fixture
def three(plugins, overlay):
    found = {
        "numpy.gpu": overlay("numpy.gpu", "varlen_softmax", rank=2, reason="values are on cpu, need cuda"),
        "numpy.fast": overlay("numpy.fast", "varlen_softmax", rank=1),
        "numpy.sum": overlay("numpy.sum", "varlen_sum"),
    }
    plugins(found)
    return found


def test_every_candidate_is_listed_with_its_reason(three, x):
    explained = scree.explain("varlen_softmax", x)
    assert explained.chosen == "numpy.fast"
    assert (
        str(explained)
        == repr(explained)
        == (
            "varlen_softmax: numpy.fast\n"
            "  numpy.gpu: values are on cpu, need cuda\n"
            "  numpy.fast: chosen\n"
            "  numpy.sum: it has no varlen_softmax\n"
            "  numpy: can, but was not asked"
        )
    )


def test_nothing_is_run(three, x):
    scree.explain("varlen_softmax", x)
    assert all(plugin.ran == [] for plugin in three.values())


def test_a_named_backend_is_shown_as_asked_for(three, x):
    explained = scree.explain("varlen_softmax", x, backend="numpy")
    assert (explained.chosen, explained.asked) == ("numpy", "numpy")
    assert str(explained).startswith("varlen_softmax: numpy (asked for: numpy)\n")
    with scree.use_backend("fast"):
        assert scree.explain("varlen_softmax", x).asked == "fast"


def test_a_named_backend_that_cannot_leaves_nothing_chosen(three, x):
    explained = scree.explain("varlen_softmax", x, backend="gpu")
    assert explained.chosen is None
    assert str(explained).startswith(
        "varlen_softmax: no backend (asked for: gpu)\n  numpy.gpu: values are on cpu, need cuda\n"
    )


def test_options_reach_the_reasons(three, x):
    scree.explain("varlen_sum", x, empty=7)
    assert three["numpy.sum"].asked[-1][2] == {"empty": 7.0}


def test_a_name_that_is_no_op_lists_the_ops(x):
    with pytest.raises(
        scree.ArgumentError, match="there is no op 'softmax'; the ops are repeat_rows, varlen_attention"
    ):
        scree.explain("softmax", x)


def test_bad_arguments_raise_what_the_op_raises(x):
    with pytest.raises(scree.ShapeError, match="needs floating-point x"):
        scree.explain("varlen_softmax", x.astype("int32"))


def test_arrays_of_different_libraries_raise_what_the_op_raises(x):
    with (
        scree.registry.installed_for(LoopbackArray, LoopbackBackend()),
        pytest.raises(scree.ShapeError, match="x and weight belong to different libraries"),
    ):
        scree.explain("varlen_rmsnorm", x, LoopbackArray(np.ones(2)))


def test_a_base_that_gives_a_reason_shows_it(plugins):
    class Picky(LoopbackBackend):
        name = "scree_core"

        def why_not(self, op, /, *args, **kwargs):
            return "needs a license"

    plugins({"scree_core": Picky})
    x = scree.from_lengths(LoopbackArray(np.zeros(3)), [1, 2])
    assert "needs a license" in str(scree.explain("varlen_softmax", x))
