"""The tests of the type on a library's arrays: round trips, rows, operators, layouts."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import scree_core
from scree_core.array import Array
from scree_core.testing import strategies
from scree_core.testing.budget import check, check_equal
from scree_core.testing.machinery import Machinery

EXAMPLES = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class TypeTests(Machinery):
    """What ``scree.Array`` answers for."""

    @EXAMPLES
    @given(lengths=strategies.lengths())
    def test_padding_round_trips_bitwise(self, place: Any, lengths: tuple[int, ...]) -> None:
        """``from_padded(*to_padded(arr))`` is ``arr``, on either side and with any width."""
        arr = self._example(place, lengths)
        for side in ("right", "left"):
            for width in (None, max(lengths, default=0) + 3):
                padded, mask = scree_core.to_padded(arr, side=side, fill_value=-1, max_length=width)
                self._assert_same(scree_core.from_padded(padded, mask), arr)

    @EXAMPLES
    @given(lengths=strategies.lengths(min_rows=1))
    def test_packing_round_trips_bitwise(self, place: Any, lengths: tuple[int, ...]) -> None:
        """``pack(unpack(arr))`` is ``arr``, and every row is what was packed."""
        arr = self._example(place, lengths)
        rows = scree_core.unpack(arr)
        assert [row.shape[0] for row in rows] == list(lengths)
        self._assert_same(scree_core.pack(rows), arr)
        self._assert_same(scree_core.concat([arr[: len(lengths) // 2], arr[len(lengths) // 2 :]]), arr)

    @EXAMPLES
    @given(lengths=strategies.lengths(min_rows=1), data=strategies.data())
    def test_permuting_rows_twice_is_no_change(self, place: Any, lengths: tuple[int, ...], data: Any) -> None:
        """``arr[order]`` has the rows in that order, and the inverse order brings them back."""
        arr = self._example(place, lengths)
        order = data.draw(strategies.permutation(len(lengths)))
        moved = arr[order]
        for i, row in zip(order, moved, strict=True):
            check_equal(self.numbers(row), self.numbers(arr[i]), "row")
        self._assert_same(moved[np.argsort(order)], arr)

    @EXAMPLES
    @given(lengths=strategies.lengths(min_rows=2))
    def test_rows_are_computed_alone(self, place: Any, lengths: tuple[int, ...]) -> None:
        """A row's result in a batch is its result by itself, to the budget."""
        x = self._example(place, lengths)
        for op in ("varlen_softmax", "varlen_cumsum"):
            whole = getattr(scree_core, op)(x)
            for i in range(len(lengths)):
                alone = self.numbers(getattr(scree_core, op)(x[i : i + 1]).values)
                check(self.numbers(whole[i]), alone, alone, "float32", f"{op} row {i}")

    def test_layout_is_derived_where_the_values_are(self, place: Any) -> None:
        """Lengths, row numbers and positions come in the offsets' dtype."""
        for dtype in ("int32", "int64"):
            offsets = place(np.array([0, 2, 2, 5], dtype))
            arr = Array(place(np.zeros((5, 2), np.float32)), offsets)
            assert arr.offsets is offsets
            for derived, expected in (
                (arr.lengths, [2, 0, 3]),
                (arr.segment_ids, [0, 0, 2, 2, 2]),
                (arr.positions, [0, 1, 0, 1, 2]),
            ):
                assert self.plugin().owns(derived)
                assert derived.dtype == offsets.dtype
                assert self.plugin().to_numpy(derived).tolist() == expected

    def test_operators_work_with_scalars_dense_arrays_and_arrays(self, place: Any) -> None:
        """Arithmetic and comparison on both sides, sharing the layout."""
        host = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
        arr = Array(place(host), place(np.array([0, 1, 3], np.int32)))
        bias = place(np.array([10.0, 20.0], np.float32))
        for got, expected in (
            (arr + 1, host + 1),
            (2 - arr, 2 - host),
            (arr * bias, host * [10, 20]),
            *([(bias - arr, [10, 20] - host)] if self.defers else []),
            (arr / arr, host / host),
            (arr**2, host**2),
            (-arr, -host),
            (abs(-arr), host),
            (arr > 2, host > 2),
            (arr == arr, host == host),
            ((arr > 2) & (arr < 5), (host > 2) & (host < 5)),
        ):
            assert got.layout is arr.layout
            np.testing.assert_array_equal(self.plugin().to_numpy(got.values), np.asarray(expected))

    def test_operators_refuse_other_layouts(self, place: Any) -> None:
        """Arrays that lie differently, and dense arrays that don't broadcast, raise a ShapeError."""
        values = place(np.zeros((3, 2), np.float32))
        arr = Array(values, place(np.array([0, 1, 3], np.int32)))
        with pytest.raises(scree_core.ShapeError, match="equal offsets"):
            arr + Array(values, place(np.array([0, 1, 2, 3], np.int32)))
        with pytest.raises(scree_core.ShapeError, match="doesn't broadcast"):
            arr + place(np.zeros((2, 2), np.float32))

    def test_arrays_survive_pickling(self, place: Any) -> None:
        """Values, offsets and a shared layout come back."""
        arr = self._example(place, (2, 0, 3))
        first, second = pickle.loads(pickle.dumps((arr, arr * 2)))
        assert first.layout is second.layout
        self._assert_same(first, arr)

    def test_layout_knows_what_validate_checks(self, place: Any) -> None:
        """Broken offsets are refused at construction or, where only a device knows them, by validate."""
        values = place(np.zeros(4, np.float32))
        for offsets, match in (
            ([1, 4], r"offsets\[0\] must be 0, got 1"),
            ([0, 3, 2, 4], r"non-decreasing, but offsets\[2\] < offsets\[1\]"),
            ([0, 3], r"offsets\[-1\] \(3\) must equal values.shape\[ragged_dim=0\] \(4\)"),
        ):
            with pytest.raises(scree_core.ShapeError, match=match):
                Array(values, place(np.array(offsets, np.int32))).validate()

    def _example(self, place: Any, lengths: tuple[int, ...]) -> Array[Any]:
        values = np.random.default_rng(sum(lengths)).standard_normal((sum(lengths), 3)).astype(np.float32)
        return scree_core.from_lengths(place(values), lengths)

    def _assert_same(self, got: Array[Any], expected: Array[Any]) -> None:
        check_equal(self.numbers(got.values), self.numbers(expected.values), "values")
        check_equal(self.numbers(got.offsets), self.numbers(expected.offsets), "offsets")
        assert got.dtype == expected.dtype
        assert got.validate() is got
