"""The error budget: how much is allowed, what is never allowed, and that the helpers raise by themselves."""

import numpy as np
import pytest

from scree_core.testing import BudgetError, allowed_error
from scree_core.testing.budget import EPS, check, check_equal

TRUTH = np.array([1.0, -2.0, 0.5])


def test_the_budget_is_twice_the_naive_error_and_one_ulp():
    naive = TRUTH + np.array([0.0, 0.25, 0.0])
    assert allowed_error(naive, TRUTH, "float16") == 2 * 0.25 + 2.0**-10 * 2.0


def test_the_ulp_is_that_of_one_for_small_values():
    assert allowed_error(TRUTH / 100, TRUTH / 100, "float32") == 2.0**-23


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 23), ("float16", 10), ("bfloat16", 7), ("float64", 48)])
def test_units_in_the_last_place(dtype, bits):
    assert EPS[dtype] == 2.0**-bits


def test_where_truth_or_naive_is_not_finite_nothing_is_allowed_for():
    truth = np.array([1.0, np.inf, np.nan, 4.0])
    naive = np.array([1.0, 3.0, 3.0, np.inf])
    assert allowed_error(naive, truth, "float32") == 2.0**-23 * 4


def test_the_share_of_the_budget_is_returned():
    ulp = 2.0**-23 * 2
    assert check(TRUTH + np.array([0, ulp / 2, 0]), TRUTH, TRUTH, "float32", "op") == pytest.approx(0.5)
    assert check(TRUTH, TRUTH, TRUTH, "float32", "op") == 0.0


def test_an_error_over_the_budget_raises_with_the_numbers():
    got = TRUTH + np.array([0, 0, 1e-3])
    with pytest.raises(
        BudgetError, match=r"op: error 0.001 at \(2,\) is over the float32 budget .*got 0.501, truth 0.5"
    ):
        check(got, TRUTH, TRUTH, "float32", "op")


def test_one_budget_holds_for_all_elements_however_large_the_others_are():
    truth = np.array([1.0, 1000.0])
    check(truth + np.array([1000 * 2.0**-23, 0]), truth, truth, "float32", "op")
    with pytest.raises(BudgetError):
        check(truth + np.array([1001 * 2.0**-23, 0]), truth, truth, "float32", "op")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_finite_in_truth_must_be_finite(bad):
    got = TRUTH.copy()
    got[1] = bad
    with pytest.raises(BudgetError, match=rf"op: {bad} at \(1,\), expected -2.0 \(1 such elements\)"):
        check(got, TRUTH, TRUTH, "bfloat16", "op")


@pytest.mark.parametrize(("want", "bad"), [(np.inf, -np.inf), (np.inf, 1e30), (-np.inf, np.nan), (np.nan, 0.0)])
def test_infinities_and_nan_must_be_where_the_truth_has_them(want, bad):
    truth = np.array([1.0, want])
    assert check(truth.copy(), truth, truth, "float32", "op") == 0.0
    with pytest.raises(BudgetError, match=r"at \(1,\), expected"):
        check(np.array([1.0, bad]), truth, truth, "float32", "op")


def test_another_shape_raises():
    for helper in (lambda a, b: check(a, b, b, "float32", "op"), lambda a, b: check_equal(a, b, "op")):
        with pytest.raises(BudgetError, match=r"op: shape \(3, 1\), expected \(3,\)"):
            helper(TRUTH[:, None], TRUTH)


def test_nothing_is_within_any_budget():
    none = np.zeros((0, 4))
    assert check(none, none, none, "float32", "op") == 0.0
    check_equal(none, none, "op")


def test_moved_elements_must_be_equal_bit_by_bit():
    odd = np.array([1.0, np.nan, np.inf])
    check_equal(odd.copy(), odd, "op")
    with pytest.raises(BudgetError, match=r"op: 1.0000001\d* at \(0,\), expected 1.0 \(2 such elements\)"):
        check_equal(np.array([1.0000001, np.nan, 3.0]), odd, "op")


def test_a_budget_error_is_an_assertion_error():
    assert issubclass(BudgetError, AssertionError)
