"""The tests of what the error budget is too generous for: sums of halves, dtypes, an Array used thrice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import scree_core
from scree_core.array import Array
from scree_core.backend import HALF_DTYPES
from scree_core.testing.budget import EPS, check
from scree_core.testing.case import Rows
from scree_core.testing.expected import reference_gradients
from scree_core.testing.machinery import Machinery
from scree_core.testing.truth import as_dtype

MANY = 4096
"""Ones that bfloat16, adding up in itself, counts as 256, and float16 as 2048."""


class PrecisionTests(Machinery):
    """What every backend answers for, beyond its share of the budget."""

    def test_halves_are_added_up_wider(self, place: Any) -> None:
        """The sum, mean, running sum and log-sum-exp of 4,096 ones or zeros are right."""
        for dtype in self._halves():
            lengths = (MANY, 3)
            ones = scree_core.from_lengths(place(np.ones(sum(lengths), as_dtype(dtype))), lengths)
            assert self.numbers(scree_core.varlen_sum(ones)).tolist() == [MANY, 3]
            assert self.numbers(scree_core.varlen_mean(ones)).tolist() == [1, 1]
            running = self.numbers(scree_core.varlen_cumsum(ones).values)
            assert (running[MANY - 1], running[-1]) == (MANY, 3)
            logs = self.numbers(scree_core.varlen_logsumexp(ones * 0))
            assert np.abs(logs - np.log(lengths)).max() <= EPS[dtype] * np.log(MANY)

    def test_gradients_of_halves_are_added_up_wider(self, place: Any) -> None:
        """The gradient of what is repeated over 4,096 elements counts them all."""
        plugin = self.plugin()
        for dtype in self._halves() if plugin.differentiates else ():
            ones = place(np.ones((MANY, 1), as_dtype(dtype)))
            like = scree_core.from_lengths(ones, (MANY,))
            (got,) = plugin.vjp(
                lambda dense, like=like: (scree_core.repeat_rows(dense, like).values,), (ones[:1, ...],), (ones,)
            )
            assert self.numbers(got).tolist() == [[MANY]]

    def test_scalars_do_not_widen(self, place: Any) -> None:
        """NumPy's numbers are to an Array what Python's are to the library's own arrays."""
        name = self.plugin().dtype_name
        for dtype in {"float32", *self._halves()}:
            arr = scree_core.from_lengths(place(np.ones(3, as_dtype(dtype))), (1, 2))
            pairs = [(arr * 2, arr.values * 2), (arr / 3.0, arr.values / 3.0)]
            if not isinstance(arr.values, np.ndarray):  # NumPy itself widens for its own
                pairs.append((arr * np.float32(2), arr.values * 2.0))
            assert [name(got.values) for got, _ in pairs] == [name(own) for _, own in pairs]

    def test_gradients_of_an_array_used_thrice_add_up(self, place: Any) -> None:
        """Attention of an Array to itself has one gradient: those of q, k and v together."""
        plugin, lengths = self.plugin(), (5, 0, 3)
        if not plugin.differentiates:
            pytest.skip(f"{plugin.name!r} does not differentiate")
        rng = np.random.default_rng(0)
        x, cotangent = (rng.standard_normal((sum(lengths), 2, 4)).astype(np.float32) for _ in range(2))
        arr = scree_core.from_lengths(place(x), lengths)

        def attend(values: Any) -> tuple[Any, ...]:
            same = Array.trusted(values, arr.layout)
            return (scree_core.varlen_attention(same, same, same, causal=True).values,)

        (got,) = plugin.vjp(attend, (arr.values,), (place(cotangent),))
        rows = {name: Rows(x, lengths) for name in ("q", "k", "v")}
        wide = {name: Rows(x.astype(np.float64), lengths) for name in ("q", "k", "v")}
        exact = reference_gradients("varlen_attention", {**wide, "causal": True}, [cotangent.astype(np.float64)])
        plain = reference_gradients("varlen_attention", {**rows, "causal": True}, [cotangent])
        truth, naive = np.sum(exact, axis=0), np.sum(plain, axis=0).astype(np.float64)
        check(self.numbers(got), naive, truth, "float32", "attention of an Array to itself")

    def _halves(self) -> tuple[str, ...]:
        return tuple(dtype for dtype in self.dtypes if dtype in HALF_DTYPES)
