"""The tests of Arrays with a tail: what is dead has no influence, and comes out 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.testing.budget import check, check_equal
from scree_core.testing.case import Case, Rows
from scree_core.testing.expected import as_numbers, check_layout, reference_outputs
from scree_core.testing.gradients import Gradients
from scree_core.testing.placing import placed, rounded, widened
from scree_core.testing.public import EXACT, outputs
from scree_core.testing.tails import TAIL, behind, filling, has_tail, tailed
from scree_core.testing.truth import DIFFERENTIABLE


class TailTests(Gradients):
    """What every op answers for where elements follow the last offset, all of them NaN."""

    def test_a_tail_is_dead(self, case: Case, dtype: str, device: str, place: Any) -> None:
        """Results are those without the tail, and 0 in it."""
        drawn = rounded(case.draw(), dtype)
        arguments = placed(tailed(drawn), place)
        self.skip_refused(case.op, arguments, self.entry(case.op))
        result = self.run(case.op, arguments)
        truth, naive = reference_outputs(case.op, widened(drawn)), reference_outputs(case.op, drawn)
        for i, (got, want, plain) in enumerate(zip(outputs(result), truth, naive, strict=True)):
            what, numbers = f"{case.id} with a tail, output {i}", self.numbers(got)
            if has_tail(case.op):
                dead, numbers = numbers[want.shape[0] :], numbers[: want.shape[0]]
                check_equal(
                    dead, np.full((TAIL, *want.shape[1:]), filling(case.op, drawn), dead.dtype), f"{what}, tail"
                )
            if case.op in EXACT:
                check_equal(numbers, as_numbers(plain), what)
            else:
                check(numbers, as_numbers(plain), as_numbers(want), dtype, what)
        check_layout(case.op, arguments, result)

    def test_a_tail_takes_part_in_no_gradient(self, case: Case, dtype: str, device: str, place: Any) -> None:
        """Gradients are those without the tail, and 0 in it, though its cotangents are NaN."""
        drawn = rounded(case.draw(), dtype)
        spoil = (lambda c: behind(c, np.nan)) if has_tail(case.op) else (lambda c: c)
        got, truth, naive = self.gradients(case, drawn, place, given=tailed(drawn), spoil=spoil)
        named = [value for name in DIFFERENTIABLE[case.op] if (value := drawn.get(name)) is not None]
        for i, (argument, g, want, plain) in enumerate(zip(named, got, truth, naive, strict=True)):
            what = f"{case.id} with a tail, gradient {i}"
            if isinstance(argument, Rows):
                live = argument.values.shape[0]
                check_equal(g[live:], np.zeros((TAIL, *want.shape[1:])), f"{what}, tail")
                g = g[:live]
            check(g, plain, want, dtype, what)
