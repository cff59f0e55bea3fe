"""MLX arrays from NumPy and back."""

import sys

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest

import scree
from scree_mlx.convert import NAMES, from_numpy, to_numpy


@pytest.mark.parametrize("name", NAMES)
def test_values_and_dtype_survive_the_round_trip(name):
    dtype = ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)
    a = np.array([[0, 1, 3], [5, 7, 9]]).astype(dtype)
    back = to_numpy(from_numpy(a))
    assert back.dtype == dtype
    assert back.tobytes() == a.tobytes()


def test_float64_and_int64_keep_every_bit():
    assert to_numpy(from_numpy(np.array([1 / 3])))[0] == 1 / 3
    assert to_numpy(from_numpy(np.array([2**62 + 1])))[0] == 2**62 + 1


@pytest.mark.parametrize(
    "a",
    [
        pytest.param(np.arange(6, dtype=np.int32)[::-2], id="negative strides"),
        pytest.param(np.arange(3, dtype=">f8"), id="big endian"),
        pytest.param(np.broadcast_to(np.float16(2), (3, 2)), id="read-only"),
        pytest.param(np.arange(4).astype(ml_dtypes.bfloat16)[::-1], id="reversed bfloat16"),
        pytest.param(np.array(2.5), id="scalar"),
    ],
)
def test_any_strides_and_byte_order_are_taken(a):
    assert to_numpy(from_numpy(a)).tolist() == a.tolist()
    assert from_numpy(a).shape == a.shape


@pytest.mark.parametrize("a", [np.zeros(2, complex), np.zeros(2, np.longdouble), np.array(["a"])])
def test_what_mlx_has_no_dtype_for_is_refused(a):
    with pytest.raises(scree.ShapeError, match=f"MLX has no dtype {a.dtype.name}.*cast it first"):
        from_numpy(a)


def test_nothing_is_an_ordinary_array():
    # NumPy gives an empty array strides of 0, over which mx.sum would loop for ever.
    empty = from_numpy(np.zeros((0, 16), np.float32))
    assert mx.sum(empty * 2, axis=0).tolist() == [0] * 16


def test_numpy_views_are_read_only():
    x = mx.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        to_numpy(x)[0] = 7


def test_strided_bfloat16_comes_back():
    x = mx.arange(6).astype(mx.bfloat16).reshape(2, 3).T
    assert to_numpy(x).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_bfloat16_without_ml_dtypes_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(scree.UnsupportedError, match="pip install ml-dtypes, or cast first"):
        to_numpy(mx.zeros(2, dtype=mx.bfloat16))
