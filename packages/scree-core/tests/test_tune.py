"""tune: who runs a call measures it, if it has anything to measure."""

import numpy as np
import pytest

import scree_core as scree
from scree_core.tune import TunedKernel, Tuning

FOUND = Tuning(
    "varlen_softmax",
    "numpy.fast",
    "a device, rows of 1 to 2",
    (
        TunedKernel("forward", "64x64", 2.0, "64x32", 1.5, 7),
        TunedKernel("all", "16x16", 0.123456, "16x16", 0.123456, 3),
    ),
    "some/file.json",
)


@pytest.fixture
def x():
    return scree.from_lengths(np.zeros((3, 2)), [1, 2])


def tuner(cls):
    """Give an overlay a tune method that notes what it was asked."""
    cls.tuned = []

    def tune(self, op, /, *args, gradient, **kwargs):
        self.tuned.append((op, args, gradient, kwargs))
        return FOUND

    cls.tune = tune
    return cls


def test_who_runs_the_call_tunes_it_as_checked(plugins, overlay, x):
    fast = tuner(overlay("numpy.fast", "varlen_sum"))
    plugins({"numpy.fast": fast})
    assert scree.tune("varlen_sum", x, empty=7, gradient=True) is FOUND
    ((op, args, gradient, kwargs),) = fast.tuned
    assert (op, gradient, kwargs) == ("varlen_sum", True, {"empty": 7.0})
    assert args[0] is x.values
    assert args[1] is x.layout
    assert fast.ran == []


def test_who_has_nothing_to_tune_says_so(x):
    with pytest.raises(
        scree.UnsupportedError, match=r"^backend .numpy. runs varlen_softmax here and has nothing to tune$"
    ):
        scree.tune("varlen_softmax", x)


def test_who_has_something_to_tune_is_named_with_its_reason(plugins, overlay, x):
    plugins({"numpy.gpu": tuner(overlay("numpy.gpu", "varlen_softmax", reason="values are on cpu, need cuda"))})
    with pytest.raises(scree.UnsupportedError, match=r"who has doesn't run it: numpy\.gpu: values are on cpu, need cu"):
        scree.tune("varlen_softmax", x)
    with pytest.raises(scree.UnsupportedError, match="backend 'gpu' can't run varlen_softmax: values are on cpu"):
        scree.tune("varlen_softmax", x, backend="gpu")


def test_a_backend_is_tuned_by_name(plugins, overlay, x):
    fast = tuner(overlay("numpy.fast", "varlen_softmax"))
    fast.named_only = True
    plugins({"numpy.fast": fast})
    assert scree.tune("varlen_softmax", x, backend="fast") is FOUND
    with pytest.raises(scree.UnsupportedError, match=r"numpy\.fast: can, if named"):
        scree.tune("varlen_softmax", x)


def test_bad_calls_raise_what_the_op_raises(x):
    with pytest.raises(scree.ArgumentError, match="there is no op 'softmax'"):
        scree.tune("softmax", x)
    with pytest.raises(scree.ShapeError, match="needs floating-point x"):
        scree.tune("varlen_softmax", x.astype("int32"))


def test_what_was_found_reads_as_lines():
    assert FOUND.kernels[0].ratio == 0.75
    assert (
        str(FOUND)
        == repr(FOUND)
        == (
            "varlen_softmax by numpy.fast on a device, rows of 1 to 2\n"
            "  forward  64x64 2 ms, now 64x32 1.5 ms: 0.75 of the time, the fastest of 7\n"
            "  all      16x16 0.1235 ms, kept: the fastest of 3\n"
            "  kept in some/file.json; delete it to forget"
        )
    )
    assert str(FOUND._replace(path=None)).endswith("\n  kept for this process alone")
