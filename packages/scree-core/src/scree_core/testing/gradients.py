"""The library's gradients of a case, beside the reference's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scree_core.testing.case import Case
from scree_core.testing.expected import as_numbers, reference_gradients, reference_outputs
from scree_core.testing.machinery import Machinery
from scree_core.testing.placing import float_leaves, is_float, placed, replaced, widened
from scree_core.testing.public import outputs
from scree_core.testing.truth import DIFFERENTIABLE


class Gradients(Machinery):
    """What tests of gradients have in common."""

    def gradients(
        self,
        case: Case,
        drawn: dict[str, Any],
        place: Any,
        *,
        given: dict[str, Any] | None = None,
        spoil: Callable[[np.ndarray], np.ndarray] = lambda cotangent: cotangent,
        through: Callable[..., Any] | None = None,
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Return the library's gradients at ``given``, and the reference's at ``drawn``, in float64 and naively.

        Parameters
        ----------
        drawn : dict
            The case's arguments, rounded.
        given : dict, optional
            What the library gets instead, such as the same with poisoned rows.
        spoil : callable
            What the library gets in place of each cotangent.
        through : callable, optional
            Replaces the call of the op: ``through(arguments)``.
        """
        arguments = placed(drawn if given is None else given, place)
        self.skip_refused(case.op, arguments, self.entry(case.op))
        call = through or (lambda arguments: self.call(case.op, arguments))
        names = [name for name in DIFFERENTIABLE[case.op] if arguments.get(name) is not None]
        primals = tuple(leaf for name in names for leaf in float_leaves(arguments[name]))
        expected = [out for out in reference_outputs(case.op, drawn) if is_float(np.asarray(out))]

        def fn(*leaves: Any) -> tuple[Any, ...]:
            rest = list(leaves)
            moved = {name: replaced(arguments[name], rest) for name in names}
            return tuple(outputs(call({**arguments, **moved}))[: len(expected)])

        plugin = self.plugin()
        rng = np.random.default_rng(len(case.id))
        dtypes = self._dtypes_of_outputs(case, arguments, primals)[: len(expected)]

        def rounded_to(cotangent: np.ndarray, dtype: str) -> Any:
            return plugin.astype(place(cotangent.astype(np.float32)), dtype)

        draws = [rng.standard_normal(np.shape(out)) for out in expected]
        exact = [self.numbers(rounded_to(draw, dtype)) for draw, dtype in zip(draws, dtypes, strict=True)]
        cotangents = [rounded_to(spoil(c), dtype) for c, dtype in zip(exact, dtypes, strict=True)]
        with self.poisoned_memory():
            got = plugin.vjp(fn, primals, tuple(cotangents))
            plugin.synchronize(got)
        truth = reference_gradients(case.op, widened(drawn), exact)
        naive = reference_gradients(case.op, drawn, exact)
        return [self.numbers(g) for g in got], [as_numbers(g) for g in truth], [as_numbers(g) for g in naive]

    def _dtypes_of_outputs(self, case: Case, arguments: dict[str, Any], primals: tuple[Any, ...]) -> list[str]:
        # The forward pass is other tests' to try, and compiling it takes longest: one plain call tells for all of them.
        plugin = self.plugin()
        key = (case.id, *((plugin.dtype_name(leaf), plugin.device(leaf)) for leaf in primals))
        if key not in self._dtypes:
            self._dtypes[key] = [plugin.dtype_name(out) for out in outputs(self.call(case.op, arguments))]
        return self._dtypes[key]
