"""What holds for every function of the reference: gradients, namespaces, dtypes, and rows that keep to themselves."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import array_api_strict
import ml_dtypes
import numpy as np
import pytest

from scree_core import reference
from scree_core.protocols import Namespace

Q_OFFSETS = np.array([0, 0, 3, 3, 4, 9, 9], np.int32)
K_OFFSETS = np.array([0, 2, 2, 5, 11, 12, 12], np.int32)  # every mix of fewer, more and no keys
POSITIONS = np.array([0, 1, 2, 0, 3, 3, 4, 0, 1], np.int32)
LABELS = np.array([1, 3, -1, -1, 0, 2, 3, 1, -1], np.int32)
IDS = reference.segment_ids(np, Q_OFFSETS, 9)
TOTALS = {"q": Q_OFFSETS, "k": K_OFFSETS, "row": np.arange(7)}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of one op.

    ``primals`` are the float arguments by name, in the order of the gradients; ``axes`` says what the first axis
    of each counts: "q" or "k" elements, a "row" each, or None for none of these. So does ``out_axes`` for outputs.
    """

    op: str
    primals: dict[str, np.ndarray | None]
    axes: tuple[str | None, ...]
    out_axes: tuple[str, ...]
    rest: dict[str, Any]
    smooth: bool = True

    @property
    def vjp(self) -> str:
        return self.op + "_vjp"

    def forward(self, xp: Any, primals: dict[str, Any]) -> tuple[Any, ...]:
        rest = {key: placed(xp, value) for key, value in self.rest.items()}
        out = getattr(reference, self.op)(xp, **primals, **rest)
        return (out if isinstance(out, tuple) else (out,))[: len(self.out_axes)]  # a mask has no gradient

    def backward(self, xp: Any, cotangents: tuple[Any, ...], primals: dict[str, Any]) -> tuple[Any, ...]:
        rest = {key: placed(xp, value) for key, value in self.rest.items()}
        grads = getattr(reference, self.vjp)(xp, *cotangents, **primals, **rest)
        assert isinstance(grads, tuple)
        assert len(grads) == len(self.primals)
        return grads

    def cotangents(self) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(7)
        return tuple(rng.normal(size=out.shape) for out in self.forward(np, self.primals))


def placed(xp: Any, value: Any) -> Any:
    """Return an option as ``xp`` holds it: arrays of integers are arguments of the ops that take them traced."""
    asarray = getattr(xp, "asarray_for_test", None)
    return asarray(value) if asarray is not None and isinstance(value, np.ndarray) else value


def attention(heads=4, kv_heads=2, sinks=False, k_offsets=K_OFFSETS, **options) -> Case:
    k_total = int(k_offsets[-1])
    primals = {
        "q": normal(9, heads, 3),
        "k": normal(k_total, kv_heads, 3),
        "v": normal(k_total, kv_heads, 2),
        "sinks": normal(heads) if sinks else None,
    }
    k_axis = "k" if k_offsets is K_OFFSETS else "q"
    rest = {"causal": False, "scale": 0.6, "window": (-1, -1), "softcap": None, **options}
    rest.update(q_offsets=Q_OFFSETS.tolist(), k_offsets=k_offsets.tolist())
    return Case("varlen_attention", primals, ("q", k_axis, k_axis, None), ("q", "q"), rest)


def by_rows(op: str, x: np.ndarray, out_axis: str, smooth: bool = True, **rest) -> Case:
    return Case(op, {"x": x}, ("q",), (out_axis,), {"offsets": Q_OFFSETS.tolist(), **rest}, smooth)


TABLES = {"x": normal(9, 2, 7), "cos": normal(5, 3), "sin": normal(5, 3) + 1}
CASES = {
    "attention": attention(),
    "attention causal": attention(causal=True),
    "attention of a row to itself": attention(causal=True, k_offsets=Q_OFFSETS, kv_heads=4),
    "attention window": attention(window=(2, 1)),
    "attention softcap": attention(softcap=0.8),
    "attention sinks": attention(sinks=True),
    "attention with all": attention(heads=6, causal=True, window=(2, 3), softcap=0.8, sinks=True),
    "layernorm": Case(
        "varlen_layernorm",
        {"x": normal(9, 2, 4), "weight": normal(4), "bias": normal(4) + 1},
        ("q", None, None),
        ("q",),
        {"eps": 0.1},
    ),
    "layernorm bare": Case(
        "varlen_layernorm", {"x": normal(9, 4), "weight": None, "bias": None}, ("q", None, None), ("q",), {"eps": 0.1}
    ),
    "rmsnorm": Case("varlen_rmsnorm", {"x": normal(9, 2, 4), "weight": normal(4)}, ("q", None), ("q",), {"eps": 0.1}),
    "rmsnorm bare": Case("varlen_rmsnorm", {"x": normal(9, 4), "weight": None}, ("q", None), ("q",), {"eps": 0.1}),
    "softmax": by_rows("varlen_softmax", normal(9, 2), "q"),
    "rope halves": Case(
        "varlen_rope", TABLES, ("q", None, None), ("q",), {"positions": POSITIONS, "interleaved": False}
    ),
    "rope neighbours": Case(
        "varlen_rope", TABLES, ("q", None, None), ("q",), {"positions": POSITIONS, "interleaved": True}
    ),
    "rope without heads": Case(
        "varlen_rope",
        {**TABLES, "x": normal(9, 6)},
        ("q", None, None),
        ("q",),
        {"positions": POSITIONS, "interleaved": True},
    ),
    "sum": by_rows("varlen_sum", normal(9, 2), "row", empty=0.0),
    "mean": by_rows("varlen_mean", normal(9, 2), "row", empty=0.0),
    "max": by_rows("varlen_max", normal(9, 2), "row", smooth=False, empty=0.0),
    "min": by_rows("varlen_min", normal(9, 2), "row", smooth=False, empty=0.0),
    "logsumexp": by_rows("varlen_logsumexp", normal(9, 2), "row", empty=0.0),
    "cumsum": by_rows("varlen_cumsum", normal(9, 2), "q"),
    "cumsum of scalars": by_rows("varlen_cumsum", normal(9), "q"),
    "cross_entropy": Case("varlen_cross_entropy", {"logits": normal(9, 4)}, ("q",), ("q",), {"labels": LABELS}),
    "repeat_rows": Case("repeat_rows", {"dense": normal(6, 2)}, ("row",), ("q",), {"segment_ids": IDS}),
    "to_padded right": Case(
        "to_padded",
        {"x": normal(9, 2)},
        ("q",),
        ("row",),
        {"offsets": Q_OFFSETS, "width": 6, "side": "right", "fill_value": 0.0},
    ),
    "to_padded left": Case(
        "to_padded",
        {"x": normal(9, 2)},
        ("q",),
        ("row",),
        {"offsets": Q_OFFSETS, "width": 6, "side": "left", "fill_value": 0.0},
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def cast(arrays: dict[str, Any], change: Any) -> dict[str, Any]:
    return {name: None if array is None else change(array) for name, array in arrays.items()}


def test_every_vjp_has_a_case():
    vjps = {name for name in reference.__all__ if name.endswith("_vjp")}
    assert vjps == {case.vjp for case in CASES.values()}


# ---------------------------------------------------------------------------------------------- gradients


def differentiate(case: Case, name: str, cotangents: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the gradient by perturbing one element after the other.

    A smooth op gets a step into the complex plane, whose imaginary part is the derivative without any
    cancellation (Squire & Trapp 1998); a piecewise linear one a finite step, exact within its piece.
    """
    grad = np.zeros(case.primals[name].shape)

    def loss(step: complex, index: Any) -> Any:
        dtype = np.complex128 if case.smooth else np.float64
        primals = cast(case.primals, lambda array: array.astype(dtype))
        primals[name][index] += step
        return [out.imag if case.smooth else out for out in case.forward(np, primals)]

    for index in np.ndindex(grad.shape):
        if case.smooth:
            change = [part / 1e-30 for part in loss(1e-30j, index)]
        else:
            change = [(up - down) / 2e-4 for up, down in zip(loss(1e-4, index), loss(-1e-4, index), strict=True)]
        grad[index] = sum(float((c * part).sum()) for c, part in zip(cotangents, change, strict=True))
    return grad


@every_case
def test_a_vjp_is_the_derivative_of_its_forward(case):
    cotangents = case.cotangents()
    grads = dict(zip(case.primals, case.backward(np, cotangents, case.primals), strict=True))
    for name, primal in case.primals.items():
        if primal is None:
            assert grads[name] is None
            continue
        expected = differentiate(case, name, cotangents)
        assert grads[name].shape == primal.shape
        assert np.abs(expected).max() > 0.1  # else the test would compare zeros
        bound = 1e-13 if case.smooth else 1e-11
        assert np.abs(grads[name] - expected).max() <= bound * max(1.0, np.abs(expected).max())


def test_the_cotangent_of_the_lse_may_be_left_out():
    case = CASES["attention with all"]
    d_out, d_lse = case.cotangents()
    for absent, zeros in zip(
        case.backward(np, (d_out, None), case.primals),
        case.backward(np, (d_out, np.zeros_like(d_lse)), case.primals),
        strict=True,
    ):
        np.testing.assert_array_equal(absent, zeros)


# ---------------------------------------------------------------------------------------------- namespaces


class Only:
    """A namespace with the names of the protocol and no other."""

    def __init__(self, library: types.ModuleType) -> None:
        for name in Namespace.__annotations__:
            setattr(self, name, getattr(library, name))
        if library is not np:
            self.asarray_for_test = library.asarray


@pytest.fixture(params=["numpy", "array_api_strict"])
def only(request):
    if request.param == "numpy":
        yield Only(np)
        return
    with array_api_strict.ArrayAPIStrictFlags(api_version="2024.12"):
        yield Only(array_api_strict)


@every_case
def test_an_op_needs_no_name_beyond_the_protocol(case, only):
    place = getattr(only, "asarray_for_test", np.asarray)
    primals, cotangents = cast(case.primals, place), tuple(place(c) for c in case.cotangents())
    for results, expected in [
        (case.forward(only, primals), case.forward(np, case.primals)),
        (case.backward(only, cotangents, primals), case.backward(np, case.cotangents(), case.primals)),
    ]:
        for result, truth in zip(results, expected, strict=True):
            if truth is None:
                assert result is None
                continue
            assert type(result) is type(place(truth))
            np.testing.assert_array_equal(np.asarray(result), truth, strict=True)


@pytest.mark.parametrize("total", [0, 9])
def test_geometry_needs_no_name_beyond_the_protocol(only, total):
    place = getattr(only, "asarray_for_test", np.asarray)
    q_offsets, k_offsets = (Q_OFFSETS, K_OFFSETS) if total else (np.zeros(1, np.int32),) * 2
    options = {"causal": True, "window": (2, 1)}
    ids = reference.segment_ids(only, place(q_offsets), total)
    positions = reference.positions(only, place(q_offsets), ids)
    k_lo, k_hi = reference.key_ranges(only, place(q_offsets), place(k_offsets), ids, **options)
    expected = reference.segment_ids(np, q_offsets, total)
    np.testing.assert_array_equal(np.asarray(ids), expected, strict=True)
    np.testing.assert_array_equal(np.asarray(positions), reference.positions(np, q_offsets, expected), strict=True)
    ranges = reference.key_ranges(np, q_offsets, k_offsets, expected, **options)
    np.testing.assert_array_equal(np.asarray(k_lo), ranges[0], strict=True)
    np.testing.assert_array_equal(np.asarray(k_hi), ranges[1], strict=True)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32"])
def test_integers_need_no_name_beyond_the_protocol(only, dtype):
    place = getattr(only, "asarray_for_test", np.asarray)
    x = np.array([1, 0, 1, 1, 0, 0, 1, 1, 1], dtype)
    offsets = Q_OFFSETS.tolist()
    for op, args in [("varlen_sum", (offsets, 0)), ("varlen_cumsum", (offsets,))]:
        result, expected = (getattr(reference, op)(xp, a, *args) for xp, a in [(only, place(x)), (np, x)])
        np.testing.assert_array_equal(np.asarray(result), expected, strict=True)
    padded = [
        reference.to_padded(xp, to(x), to(Q_OFFSETS), 5, "left", np.ones((), dtype).item())
        for xp, to in [(only, place), (np, np.asarray)]
    ]
    for result, expected in zip(*padded, strict=True):
        np.testing.assert_array_equal(np.asarray(result), expected, strict=True)


# ---------------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32], ids=["float16", "bfloat16", "float32"])
@every_case
def test_an_op_computes_in_the_dtype_of_its_inputs(case, dtype):
    primals = cast(case.primals, lambda array: array.astype(dtype))
    cotangents = tuple(c.astype(dtype) for c in case.cotangents())
    wide = cast(primals, lambda array: array.astype(np.float64))
    wide_cotangents = tuple(c.astype(np.float64) for c in cotangents)
    for results, expected in [
        (case.forward(np, primals), case.forward(np, wide)),
        (case.backward(np, cotangents, primals), case.backward(np, wide_cotangents, wide)),
    ]:
        for result, truth in zip(results, expected, strict=True):
            if truth is None:
                continue
            assert result.dtype == dtype
            finite = np.isfinite(truth)
            result = result.astype(np.float64)
            np.testing.assert_array_equal(result[~finite], truth[~finite])
            error = np.abs(result[finite] - truth[finite]).max()
            assert error <= 4 * float(ml_dtypes.finfo(dtype).eps) * max(1.0, np.abs(truth[finite]).max())


# ---------------------------------------------------------------------------------------------- isolation


def poisoned(array: np.ndarray | None, axis: str | None, row: int, poison: float) -> np.ndarray | None:
    if array is None or axis is None:
        return array
    start, stop = TOTALS[axis][row], TOTALS[axis][row + 1]
    array = array.copy()
    array[start:stop] = poison
    return array


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # that row means nothing, as NumPy may say
@pytest.mark.parametrize("poison", [np.nan, np.inf])
@every_case
def test_what_is_no_number_reaches_no_other_row(case, poison):
    cotangents = case.cotangents()
    clean = (*case.forward(np, case.primals), *case.backward(np, cotangents, case.primals))
    axes = (*case.out_axes, *case.axes)
    for row in range(6):
        bad_primals = {
            name: poisoned(primal, axis, row, poison)
            for (name, primal), axis in zip(case.primals.items(), case.axes, strict=True)
        }
        bad_cotangents = tuple(
            poisoned(c, axis, row, poison) for c, axis in zip(cotangents, case.out_axes, strict=True)
        )
        bad = (*case.forward(np, bad_primals), *case.backward(np, bad_cotangents, bad_primals))
        for result, expected, axis in zip(bad, clean, axes, strict=True):
            if axis is None:
                continue
            start, stop = TOTALS[axis][row], TOTALS[axis][row + 1]
            np.testing.assert_array_equal(result[:start], expected[:start])
            np.testing.assert_array_equal(result[stop:], expected[stop:])


@every_case
def test_inputs_may_be_read_only(case):
    def locked(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.flags.writeable = False
        return array

    primals, cotangents = cast(case.primals, locked), tuple(map(locked, case.cotangents()))
    case.forward(np, primals)
    case.backward(np, cotangents, primals)
