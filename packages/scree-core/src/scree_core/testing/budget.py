"""How far from the truth a backend may be: no further than arithmetic of its dtype can't help.

The truth is the reference, evaluated in float64 on inputs rounded to the dtype. The budget is twice the
error of the naive evaluation, the same reference with every step in the dtype, and one unit in the last
place (16 in float64, where truth and naive are one):

    error <= 2 * max|naive - truth| + ulp * max(1, max|truth|)

The factor of two is FlashAttention's own test's (Dao et al. 2022).
"""

from __future__ import annotations

import numpy as np

EPS = {"float64": 16 * 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The unit in the last place at 1, by dtype."""


class BudgetError(AssertionError):
    """A result is further from the truth than its dtype explains."""


def allowed_error(naive: np.ndarray, truth: np.ndarray, dtype: str) -> float:
    """Return the largest error allowed.

    Parameters
    ----------
    naive, truth : float64 array
        Of one shape; positions where the truth is infinite or NaN don't count.
    dtype : str
        Dtype under test.
    """
    finite = np.isfinite(truth)
    with np.errstate(invalid="ignore"):
        error = np.abs(naive - truth)[finite & np.isfinite(naive)].max(initial=0.0)
    return float(2 * error + EPS[dtype] * max(1.0, np.abs(truth[finite]).max(initial=0.0)))


def check(got: np.ndarray, naive: np.ndarray, truth: np.ndarray, dtype: str, what: str) -> float:
    """Check a result against the budget, and return the share of it that was used.

    Raises
    ------
    BudgetError
        Another shape, infinities or NaN in other places than the truth's, or an error over the budget.
    """
    if got.shape != truth.shape:
        raise BudgetError(f"{what}: shape {got.shape}, expected {truth.shape}")
    finite = np.isfinite(truth)
    odd = np.where(finite, ~np.isfinite(got), ~np.equal(got, truth) & ~(np.isnan(got) & np.isnan(truth)))
    if odd.any():
        at = tuple(int(i) for i in np.argwhere(odd)[0])
        raise BudgetError(f"{what}: {got[at]} at {at}, expected {truth[at]} ({int(odd.sum())} such elements)")
    error = np.where(finite, np.abs(np.where(finite, got, 0) - np.where(finite, truth, 0)), 0.0)
    allowed = allowed_error(naive, truth, dtype)
    if error.max(initial=0.0) > allowed:
        at = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
        raise BudgetError(
            f"{what}: error {error[at]:.3g} at {at} is over the {dtype} budget {allowed:.3g} "
            f"(got {got[at]:.9g}, truth {truth[at]:.9g}, naive {naive[at]:.9g})"
        )
    return float(error.max(initial=0.0) / allowed)


def check_equal(got: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Check that a result which only moves elements has every bit right.

    Raises
    ------
    BudgetError
        Another shape, or any differing element; NaN equals NaN.
    """
    if got.shape != expected.shape:
        raise BudgetError(f"{what}: shape {got.shape}, expected {expected.shape}")
    same = (got == expected) | ((got != got) & (expected != expected))
    if not same.all():
        at = tuple(int(i) for i in np.argwhere(~same)[0])
        raise BudgetError(f"{what}: {got[at]} at {at}, expected {expected[at]} ({int((~same).sum())} such elements)")
