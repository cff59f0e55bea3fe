"""Operators: with scalars, dense arrays and Arrays, on either side; and what they refuse."""

import operator

import numpy as np
import pytest

import scree_core as scree

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
COMPARISON = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
BITWISE = [operator.and_, operator.or_, operator.xor]

VALUES = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
FLOATS = {
    "int": 2,
    "float": 2.5,
    "bool": True,
    "numpy scalar": np.float64(2.5),
    "numpy integer": np.int64(2),
    "no axes": np.array(2.0),
    "feature": np.array([2.0, 0.5]),
    "one feature": np.array([2.0]),
    "one row of features": np.array([[2.0, 0.5]]),
    "one for each element": np.array([[2.0], [0.5], [1.0]]),
    "every element": VALUES[::-1].copy(),
}


@pytest.fixture
def arr():
    return scree.from_lengths(VALUES.copy(), [1, 2])


def name(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize("other", FLOATS.values(), ids=FLOATS)
@pytest.mark.parametrize("op", ARITHMETIC + COMPARISON, ids=name)
def test_operators_do_to_the_values_what_numpy_does(arr, op, other):
    for got, expected in ((op(arr, other), op(VALUES, other)), (op(other, arr), op(other, VALUES))):
        assert isinstance(got, scree.Array)
        assert got.layout is arr.layout
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got.values, expected)


@pytest.mark.parametrize("op", ARITHMETIC + COMPARISON, ids=name)
def test_arrays_of_equal_offsets_combine(arr, op):
    other = scree.from_lengths(VALUES[::-1].copy(), [1, 2])
    got = op(arr, other)
    assert got.layout is arr.layout
    np.testing.assert_array_equal(got.values, op(VALUES, VALUES[::-1]))


@pytest.mark.parametrize("op", BITWISE, ids=name)
def test_masks_combine_bitwise(arr, op):
    mask, low = arr > 2, VALUES > 2
    for other in (True, np.bool_(False), VALUES < 5):
        np.testing.assert_array_equal(op(mask, other).values, op(low, other))
        np.testing.assert_array_equal(op(other, mask).values, op(other, low))
    np.testing.assert_array_equal(op(mask, arr < 5).values, op(low, VALUES < 5))


def test_unary_operators_share_the_layout(arr):
    for got, expected in (
        (-arr, -VALUES),
        (+arr, VALUES),
        (abs(arr - 4), abs(VALUES - 4)),
        (~(arr > 2), ~(VALUES > 2)),
    ):
        assert got.layout is arr.layout
        np.testing.assert_array_equal(got.values, expected)


def test_operators_write_to_nothing(arr):
    before, kept = arr.values, arr
    arr += 1  # a new Array under the old name
    assert kept is not arr
    assert before.tolist() == VALUES.tolist()


def test_the_dtype_follows_numpys_promotion(arr):
    half = arr.astype("float16")
    assert (half + 1).dtype == np.float16
    assert (half + np.float32(1)).dtype == np.float32
    assert (half + arr).dtype == np.float64
    assert (arr == 1).dtype == bool


def test_an_array_broadcasts_over_another_of_the_same_offsets(arr):
    column = arr.with_values(np.array([[2.0], [3.0], [4.0]]))
    np.testing.assert_array_equal((arr * column).values, VALUES * [[2.0], [3.0], [4.0]])


@pytest.mark.parametrize("left", [np.zeros((3, 2)), np.float64(1), np.array(1.0)])
def test_numpy_on_the_left_leaves_the_operator_to_the_array(arr, left):
    assert isinstance(left + arr, scree.Array)
    assert isinstance(left == arr, scree.Array)


@pytest.mark.parametrize(("ufunc", "operands"), [(np.exp, 1), (np.sqrt, 1), (np.add, 2)])
def test_numpys_functions_refuse_rather_than_walk_the_rows(arr, ufunc, operands):
    with pytest.raises(TypeError, match="Array"):
        ufunc(*[arr] * operands)


def test_numpy_in_place_operators_refuse_an_array_on_the_right(arr):
    dense = np.zeros((3, 2))
    with pytest.raises(TypeError):
        dense += arr


@pytest.mark.parametrize("other", [[1, 2], (1, 2), "a", None, {}, object()])
def test_anything_else_is_a_type_error(arr, other):
    for op in (operator.add, operator.lt):
        with pytest.raises(TypeError):
            op(arr, other)
        with pytest.raises(TypeError):
            op(other, arr)


def test_an_array_equals_nothing_that_is_no_number(arr):
    assert (arr == None) is False  # noqa: E711
    assert (arr != "a") is True


@pytest.mark.parametrize("shape", [(3,), (2, 2), (4, 2), (1, 3, 2), (3, 2, 1), (3, 3), (0,)])
def test_a_dense_operand_that_does_not_broadcast_names_both_shapes(arr, shape):
    for op in (lambda a, b: a + b, lambda a, b: b + a):
        with pytest.raises(scree.ShapeError) as caught:
            op(arr, np.zeros(shape))
        assert f"shape {shape} doesn't broadcast to the values' shape (3, 2)" in str(caught.value)
        assert "use scree.repeat_rows(dense, like=arr)" in str(caught.value)


def test_one_value_per_row_is_not_mistaken_for_one_per_element():
    arr = scree.from_lengths(np.zeros(4), [2, 2])
    with pytest.raises(scree.ShapeError, match="repeat_rows"):
        arr + np.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("values", "lengths", "ragged_dim", "message"),
    [
        (np.zeros((3, 2)), [2, 1], 0, r"need equal offsets, but they differ at offsets\[1\]"),
        (np.zeros((3, 2)), [1, 2, 0], 0, "they have 2 and 3 rows, 3 and 3 elements"),
        (np.zeros((4, 2)), [1, 3], 0, "they have 2 and 2 rows, 3 and 4 elements"),
        (np.zeros((2, 3)), [1, 2], 1, "different ragged axes: ragged_dim=0 and 1"),
    ],
)
def test_arrays_that_lie_differently_are_told_where(arr, values, lengths, ragged_dim, message):
    other = scree.from_lengths(values, lengths, ragged_dim)
    for op in (operator.add, operator.eq, operator.and_):
        with pytest.raises(scree.ShapeError, match=message):
            op(arr, other)
    with pytest.raises(ValueError, match="the left and the right operand"):
        arr + other


def test_int32_and_int64_offsets_combine():
    arr = scree.Array(VALUES, np.array([0, 1, 3], np.int32))
    other = scree.Array(VALUES, np.array([0, 1, 3], np.int64))
    assert (arr + other).offsets is arr.offsets
    assert (other + arr).offsets is other.offsets


def test_a_ragged_axis_that_is_not_the_first_broadcasts_by_position():
    arr = scree.from_lengths(VALUES.T.copy(), [1, 2], ragged_dim=1)
    got = arr + np.array([[10.0], [20.0]])
    assert got.ragged_dim == 1
    np.testing.assert_array_equal(got.values, VALUES.T + np.array([[10.0], [20.0]]))


def test_a_batch_of_no_rows_combines():
    none = scree.from_lengths(np.zeros((0, 2)), [])
    assert (none + none + 1 + np.zeros(2)).values.shape == (0, 2)
