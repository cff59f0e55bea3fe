"""The rules of the conformance suite: nobody drops a test, skips in silence, or passes without having run."""

import pytest

from scree_core.testing import BackendConformance, OverlayConformance
from scree_core.testing.loopback import LoopbackBackend

TESTS = [name for name in dir(BackendConformance) if name.startswith("test_")]

HEAD = """
import numpy as np
from scree_core import Overlay
from scree_core.testing import BackendConformance, OverlayConformance
from scree_core.testing.loopback import LoopbackBackend
"""
OVERLAY = """
class Fast(Overlay):
    name = "loopback.fast"

    def why_not(self, op, /, *args, **kwargs):
        {why_not}

    def varlen_softmax(self, x, layout):
        return LoopbackBackend().varlen_softmax(x, layout)

class TestFast(OverlayConformance):
    backend, overlay = LoopbackBackend, Fast
"""


@pytest.fixture
def run(pytester):
    """Return a function that runs a test file of a backend's author and gives the result."""

    def run(body, *options):
        pytester.makepyfile(HEAD + body)
        plugin = ("-p", "scree_core.testing.plugin", "-p", "no:cacheprovider", "-p", "no:randomly")
        return pytester.runpytest_inprocess(*plugin, "-rs", *options)

    return run


# ------------------------------------------------------------------ at class creation


@pytest.mark.parametrize("name", TESTS)
def test_no_test_may_be_overridden(name):
    with pytest.raises(TypeError, match=f"TestMine must not override or delete tests of the suite: {name}"):
        type("TestMine", (BackendConformance,), {"backend": LoopbackBackend, name: lambda self: None})


def test_no_test_may_be_deleted():
    with pytest.raises(TypeError, match="must not override or delete"):

        class TestMine(BackendConformance):
            backend = LoopbackBackend
            test_results_are_within_budget = None


def test_no_test_may_be_overridden_further_down():
    class Mine(BackendConformance):
        backend = LoopbackBackend

    with pytest.raises(TypeError, match="TestMine must not override"):

        class TestMine(Mine):
            def test_results_are_within_budget(self):
                """Pass."""


def test_no_test_may_be_overridden_by_a_mixin():
    class Lenient:
        def test_results_are_within_budget(self):
            """Pass."""

    with pytest.raises(TypeError, match="must not override"):

        class TestMine(Lenient, BackendConformance):
            backend = LoopbackBackend


def test_no_test_of_the_overlay_suite_may_be_overridden():
    with pytest.raises(TypeError, match="must not override"):

        class TestMine(OverlayConformance):
            def test_results_are_within_budget(self):
                """Pass."""


def test_more_tests_may_be_added():
    class TestMine(BackendConformance):
        backend = LoopbackBackend

        def test_of_my_own(self):
            """Pass."""

    assert set(TESTS) < set(dir(TestMine))


@pytest.mark.parametrize("dtypes", [("float16",), (), ("float64", "bfloat16")])
def test_float32_must_be_among_the_dtypes(dtypes):
    with pytest.raises(TypeError, match=r"TestMine.dtypes must have float32 among them, got"):
        type("TestMine", (BackendConformance,), {"backend": LoopbackBackend, "dtypes": dtypes})


# ------------------------------------------------------------------ in a run


def test_an_author_needs_five_lines(run):
    result = run("class TestMine(BackendConformance):\n    backend = LoopbackBackend", "-k", "varlen_sum or layout")
    outcome = result.parseoutcomes()
    assert outcome["passed"] > 20
    assert set(outcome) <= {"passed", "deselected", "skipped"}
    result.stdout.fnmatch_lines(["*scree conformance*", "op * TestMine*", "varlen_sum *%*", "cases run, *"])


def test_an_op_with_no_case_run_fails(run):
    result = run(OVERLAY.format(why_not="return 'needs cuda'"))
    assert result.parseoutcomes().get("errors", 0) + result.parseoutcomes().get("failed", 0) > 0
    result.stdout.fnmatch_lines(["*no case ran of*varlen_softmax*needs cuda*"])


WORKERS = ("-p", "xdist", "-n", "2", "--dist", "load", "-k")


def test_a_worker_that_only_skips_is_no_fault(run):
    """Two tests on two workers, and one of them is skipped."""
    two = "results_are_within_budget and float32 and (one_row or no_rows)"
    result = run(OVERLAY.format(why_not="return 'no rows at all' if args[0].shape[0] == 0 else None"), *WORKERS, two)
    assert result.parseoutcomes() == {"passed": 1, "skipped": 1}
    assert result.ret == 0
    result.stdout.fnmatch_lines(["TestFast varlen_softmax: 1 skipped, no rows at all"])


def test_an_op_with_no_case_run_on_any_worker_fails(run):
    result = run(OVERLAY.format(why_not="return 'needs cuda'"), *WORKERS, "results_are_within_budget")
    assert set(result.parseoutcomes()) == {"skipped"}
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAILED *TestFast: no case ran of*varlen_softmax*needs cuda*"])


def test_cases_are_skipped_with_the_overlays_own_reason(run):
    result = run(OVERLAY.format(why_not="return 'no rows at all' if args[0].shape[0] == 0 else None"))
    assert result.ret == 0
    result.stdout.fnmatch_lines(["TestFast varlen_softmax: * skipped, no rows at all", "SKIPPED*no rows at all"])


def test_an_overlay_is_tested_on_the_ops_it_defines(run):
    result = run(OVERLAY.format(why_not="return None"), "--collect-only", "-q")
    cases = [line for line in result.outlines if "test_results_are_within_budget[" in line]
    assert cases
    assert all("varlen_softmax-" in line for line in cases)


COMPILES = """
class TestMine(BackendConformance):
    backend = LoopbackBackend
    dtypes = ("float32", "float16")
    compiles = True
"""


@pytest.mark.parametrize(("options", "halves"), [([], {"mixed"}), (["--every-dtype"], {"mixed", "one_row", "no_rows"})])
def test_most_cases_are_compiled_in_float32_unless_asked_for(run, options, halves):
    result = run(COMPILES, "--collect-only", "-q", "-k", "compiled_results and varlen_softmax", *options)
    names = [line.split("varlen_softmax-")[1].split("-")[:2] for line in result.outlines if "varlen_softmax-" in line]
    found = {name for name, dtype in names if dtype == "float16"}
    assert halves <= found
    assert len(found) > 5 if options else found == halves


ABSENT = """
class TestMine(BackendConformance):
    backend = LoopbackBackend
    devices = ("cpu", "cuda")
"""


def test_a_device_that_is_not_there_is_skipped(run):
    result = run(ABSENT, "-k", "test_device_is_there or layout_is_derived")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*'cuda' isn't there*"])


def test_a_device_that_is_required_fails_instead(run):
    result = run(ABSENT, "-k", "test_device_is_there or layout_is_derived", "--require-device", "cuda")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*'cuda' is required and isn't there*"])


def test_a_required_device_that_is_there_changes_nothing(run):
    assert run(ABSENT, "-k", "test_device_is_there or layout_is_derived", "--require-device", "cpu").ret == 0


def test_bad_arguments_are_tested_on_the_overlay_by_name(run):
    result = run(OVERLAY.format(why_not="return None"), "-k", "bad_input")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] > 0


def test_a_backend_without_gradients_says_so(run):
    body = "class TestMine(BackendConformance):\n    backend = LoopbackBackend"
    result = run(body, "-k", "test_gradients")
    result.stdout.fnmatch_lines(["SKIPPED*'loopback' does not differentiate"])


WRONG = """
class Wrong(LoopbackBackend):
    def varlen_sum(self, x, layout, *, empty):
        return super().varlen_sum(x, layout, empty=empty) * (1 + 1e-3)

class TestWrong(BackendConformance):
    backend = Wrong
"""


def test_a_wrong_result_fails_with_the_case_and_the_numbers(run):
    result = run(WRONG, "-k", "results_are_within_budget and varlen_sum-mixed")
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["*BudgetError: varlen_sum-mixed output 0: error * is over the float32 budget *"])


def test_two_suites_of_one_name_do_not_count_for_each_other(pytester):
    """The cases that ran in one file must not excuse an op that ran nowhere in another."""
    pytester.makepyfile(
        test_a=HEAD + OVERLAY.format(why_not="return None"),
        test_b=HEAD + OVERLAY.format(why_not="return 'needs cuda'"),
    )
    result = pytester.runpytest_inprocess(
        "-p", "scree_core.testing.plugin", "-p", "no:cacheprovider", "--import-mode=importlib"
    )
    result.stdout.fnmatch_lines(["*no case ran of*varlen_softmax*needs cuda*"])
