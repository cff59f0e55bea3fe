"""The tests of each op inside a compiled function, where offsets are arguments without values."""

from __future__ import annotations

from typing import Any

from scree_core.testing.budget import check, check_equal
from scree_core.testing.case import Case
from scree_core.testing.compiling import as_function
from scree_core.testing.expected import as_numbers, reference_outputs
from scree_core.testing.gradients import Gradients
from scree_core.testing.placing import placed, rounded, widened
from scree_core.testing.public import EXACT


class CompiledTests(Gradients):
    """What every op answers for in a library that compiles."""

    def test_compiled_results_are_within_budget(self, case: Case, dtype: str, device: str, place: Any) -> None:
        """Each case inside a compiled function against the truth."""
        drawn = rounded(case.draw(), dtype) if not case.integer else case.draw()
        arguments = placed(drawn, place)
        self.skip_refused(case.op, arguments, self.entry(case.op))
        got = self._compiled(case, arguments)
        truth, naive = reference_outputs(case.op, widened(drawn)), reference_outputs(case.op, drawn)
        entry = self.entry(case.op)
        entry.compiled += 1
        for i, (out, want, plain) in enumerate(zip(got, truth, naive, strict=True)):
            numbers, what = self.numbers(out), f"{case.id} compiled, output {i}"
            if case.integer or case.op in EXACT:
                check_equal(numbers, as_numbers(plain), what)
            else:
                entry.used(check(numbers, as_numbers(plain), as_numbers(want), dtype, what))

    def test_compiled_gradients_are_within_budget(self, case: Case, dtype: str, device: str, place: Any) -> None:
        """The gradient of each case inside a compiled function."""
        drawn = rounded(case.draw(), dtype)
        got, truth, naive = self.gradients(case, drawn, place, through=lambda a: self._compiled(case, a))
        entry = self.entry(case.op)
        for i, (g, want, plain) in enumerate(zip(got, truth, naive, strict=True)):
            entry.used(check(g, plain, want, dtype, f"{case.id} compiled, gradient {i}"))

    def _compiled(self, case: Case, arguments: dict[str, Any]) -> tuple[Any, ...]:
        if case.op != "from_padded":
            fn, leaves = as_function(arguments, lambda a: self.call(case.op, a))
            return self.compiled(fn)(*leaves)
        # Compiled, it needs a capacity, behind which it puts zeros.
        mask, axis = arguments["mask"], arguments.get("ragged_dim", 0)
        capacity, total = mask.shape[0] * mask.shape[1], int(self.plugin().to_numpy(mask).sum())
        fn, leaves = as_function({**arguments, "capacity": capacity}, lambda a: self.call(case.op, a))
        return tuple(out[(*(slice(None),) * axis, slice(0, total), ...)] for out in self.compiled(fn)(*leaves))
