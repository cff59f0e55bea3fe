"""The tests of each op: results, gradients, isolation of rows, and refusals."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from scree_core.errors import ScreeError
from scree_core.testing.budget import check, check_equal
from scree_core.testing.case import Case, ErrorCase, Rows
from scree_core.testing.expected import as_numbers, check_layout, reference_outputs
from scree_core.testing.gradients import Gradients
from scree_core.testing.placing import placed, rounded, widened
from scree_core.testing.poison import element_slice, poisoned_arguments, poisoned_outside, row_slices
from scree_core.testing.public import EXACT, outputs
from scree_core.testing.truth import DIFFERENTIABLE


class OpTests(Gradients):
    """What every op answers for."""

    def test_device_is_there(self, device: str, request: pytest.FixtureRequest) -> None:
        """A device that isn't there is skipped with its name, or fails under ``--require-device``."""
        if self.has_device(device):
            return
        if device in request.config.getoption("--require-device", []):
            pytest.fail(f"the device {device!r} is required and isn't there")
        pytest.skip(f"the device {device!r} isn't there")

    def test_results_are_within_budget(self, case: Case, dtype: str, device: str, place: Any) -> None:
        """Each case against the truth, with dtype, layout and untouched inputs."""
        drawn = rounded(case.draw(), dtype) if not case.integer else case.draw()
        arguments = placed(drawn, place)
        self.skip_refused(case.op, arguments, self.entry(case.op))
        before = [self.plugin().to_numpy(leaf).copy() for leaf in self._arrays(arguments)]
        result = self.run(case.op, arguments)
        truth, naive = reference_outputs(case.op, widened(drawn)), reference_outputs(case.op, drawn)
        self.entry(case.op).ran += 1
        for i, (got, want, plain) in enumerate(zip(outputs(result), truth, naive, strict=True)):
            what = f"{case.id} output {i}"
            if case.integer or case.op in EXACT:
                check_equal(self.numbers(got), as_numbers(plain), what)
            else:
                share = check(self.numbers(got), as_numbers(plain), as_numbers(want), dtype, what)
                self.entry(case.op).used(share)
        self._check_dtype(case, dtype, arguments, result)
        check_layout(case.op, arguments, result)
        for leaf, copy in zip(self._arrays(arguments), before, strict=True):
            assert self.plugin().to_numpy(leaf).tobytes() == copy.tobytes(), f"{case.id} changed its input"

    def _check_dtype(self, case: Case, dtype: str, arguments: dict[str, Any], result: Any) -> None:
        """Check that the first output has the dtype of the first input, but for row numbers and sums of integers."""
        name = self.plugin().dtype_name
        first, *rest = (name(out) for out in outputs(result))
        given = arguments["arr"].offsets if case.op in ("segment_ids", "positions") else self._arrays(arguments)[0]
        if case.integer and case.op in ("varlen_sum", "varlen_cumsum"):
            assert first.startswith("int"), f"{case.id} gave {first}"
        elif case.op == "varlen_cross_entropy":
            assert first == ("float64" if dtype == "float64" else "float32"), f"{case.id} gave {first}"
        else:
            assert first == name(given), f"{case.id} gave {first} for {name(given)}"
        for extra in rest:
            assert extra in ("bool", "bool_", "float64" if dtype == "float64" else "float32"), f"{case.id} gave {extra}"

    def test_gradients_are_within_budget(self, case: Case, dtype: str, device: str, place: Any) -> None:
        """The library's gradient of each case against the reference's vjp."""
        drawn = rounded(case.draw(), dtype)
        got, truth, naive = self.gradients(case, drawn, place)
        self.entry(case.op).gradients += 1
        for i, (g, want, plain) in enumerate(zip(got, truth, naive, strict=True)):
            share = check(g, plain, want, dtype, f"{case.id} gradient {i}")
            self.entry(case.op).used(share)

    def test_poisoned_rows_leak_into_no_gradient(self, case: Case, dtype: str, device: str, place: Any) -> None:
        """NaN in every row but one, and in their cotangents, changes nothing in that row's gradients."""
        drawn = rounded(case.draw(), dtype)
        for row in range(3):
            poisoned = poisoned_arguments(drawn, keep=row, bad=np.nan)
            spoil = partial(poisoned_outside, at=row_slices(case.op, drawn, row))
            got, truth, naive = self.gradients(case, drawn, place, given=poisoned, spoil=spoil)
            rows = [v for n in DIFFERENTIABLE[case.op] if (v := drawn.get(n)) is not None]
            for i, (argument, g, want, plain) in enumerate(zip(rows, got, truth, naive, strict=True)):
                if isinstance(argument, Rows):  # a weight's gradient adds up all rows
                    own = element_slice(argument, row)
                    what = f"{case.id} gradient {i}, row {row} beside rows of nan"
                    check(g[own], plain[own], want[own], dtype, what)

    def test_poisoned_rows_leak_nowhere(self, case: Case, dtype: str, device: str, place: Any) -> None:
        """NaN and infinity in every row but one change nothing in that one."""
        drawn = rounded(case.draw(), dtype)
        self.skip_refused(case.op, placed(drawn, place), self.entry(case.op))
        truth, naive = reference_outputs(case.op, widened(drawn)), reference_outputs(case.op, drawn)
        for row, bad in ((0, np.nan), (1, np.inf), (2, np.nan)):
            poisoned = poisoned_arguments(drawn, keep=row, bad=bad)
            with np.errstate(all="ignore"):
                result = self.run(case.op, placed(poisoned, place))
            for i, (got, want, plain) in enumerate(zip(outputs(result), truth, naive, strict=True)):
                at = row_slices(case.op, drawn, row)
                what = f"{case.id} output {i}, row {row} beside rows of {bad}"
                if case.op in EXACT:
                    check_equal(self.numbers(got)[at], as_numbers(plain)[at], what)
                else:
                    check(self.numbers(got)[at], as_numbers(plain)[at], as_numbers(want)[at], dtype, what)

    def test_bad_input_is_refused(self, error_case: ErrorCase, device: str, place: Any) -> None:
        """Each wrong call raises its error, with a message that names what is wrong."""
        arguments = placed(rounded(error_case.draw(), "float32"), place)
        with pytest.raises(error_case.error, match=error_case.match) as caught:
            self.run(error_case.op, arguments)
        assert isinstance(caught.value, ScreeError)
