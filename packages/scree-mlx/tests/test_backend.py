"""What the backend says of MLX arrays, its gradients, and what happens under ``mx.compile``."""

import operator
import pickle
import subprocess
import sys
from importlib.metadata import version

import mlx.core as mx
import numpy as np
import pytest

import scree
from scree_mlx.backend import MlxBackend

backend = MlxBackend()


@pytest.fixture
def arr():
    return scree.from_lengths(mx.arange(10.0).reshape(5, 2), [2, 0, 3])


def test_import_of_the_package_imports_no_mlx():
    code = "import sys, scree_mlx; assert 'mlx' not in sys.modules, 'mlx was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_transformations_are_there_and_nothing_else():
    import scree_mlx

    assert {"compile", "grad", "value_and_grad", "vmap"} <= set(dir(scree_mlx))
    assert all(callable(getattr(scree_mlx, name)) for name in scree_mlx.__all__)
    with pytest.raises(AttributeError, match="no attribute 'jit'"):
        scree_mlx.jit  # noqa: B018


def test_backend_is_found_by_its_entry_point(arr):
    assert type(arr.backend) is MlxBackend


def test_constructors_compute_nothing():
    lazy = mx.arange(4) * mx.array(1)
    arr = scree.Array(mx.zeros(3), lazy)
    assert arr.offsets is lazy
    assert arr.layout.host is None
    assert not backend.may_cache(arr.offsets)


def test_broken_offsets_are_refused_by_validate():
    with pytest.raises(scree.ShapeError, match="non-decreasing"):
        scree.Array(mx.zeros(2), mx.array([0, 3, 2])).validate()


@pytest.mark.parametrize(("name", "symbol"), [("add", "addition"), ("lt", "less than")])
def test_mlx_arrays_on_the_left_of_an_operator_refuse(arr, name, symbol):
    # MLX raises instead of leaving the operator to its right side; strict, to notice when it stops.
    with pytest.raises(ValueError, match=f"Cannot perform {symbol}"):
        getattr(operator, name)(mx.array([3.0, 4.0]), arr)


def test_arrays_on_the_left_of_an_operator_work(arr):
    assert (arr + mx.array([3.0, 4.0])).values.tolist() == (arr.values + mx.array([3.0, 4.0])).tolist()


def test_arrays_survive_pickling(arr):
    back = pickle.loads(pickle.dumps(arr))
    assert back.values.tolist() == arr.values.tolist()
    assert back.offsets.tolist() == [0, 2, 2, 5]


def test_float64_on_a_gpu_is_refused_in_words(arr, monkeypatch, on_cpu):
    wide = arr.astype("float64")
    assert backend.why_not("varlen_softmax", wide.values, wide.layout) is None
    monkeypatch.setattr(MlxBackend, "device", lambda self, x: "gpu")
    assert backend.why_not("varlen_softmax", arr.values, arr.layout) is None
    assert "float64 on its CPU device alone" in backend.why_not("varlen_softmax", wide.values, wide.layout)


def test_device_and_version(arr):
    assert arr.device == mx.default_device().type.name
    assert backend.version() == version("mlx")


def test_dtypes_have_their_numpy_names(on_cpu):
    for name in ("float64", "float16", "bfloat16", "int32", "uint8", "bool"):
        assert backend.dtype_name(mx.zeros(1, dtype=backend.dtype(name))) == name


def test_vjp_gives_zeros_for_unused_and_integer_inputs():
    x, unused, index = mx.arange(3.0), mx.ones((2, 2)), mx.array([2, 0])
    grads = backend.vjp(lambda x, unused, index: (x[index] * 2, index), (x, unused, index), (mx.ones(2), index))
    assert [g.tolist() for g in grads] == [[2, 0, 2], [[0, 0], [0, 0]], [0, 0]]


def test_bfloat16_is_added_up_in_float32():
    out = scree.varlen_sum(scree.from_lengths(mx.ones(4096, dtype=mx.bfloat16), [4096]))
    assert out.dtype == mx.bfloat16
    assert out.tolist() == [4096]


def test_float64_softmax_is_as_precise_as_float64(on_cpu):
    x = np.random.default_rng(0).standard_normal(7)
    out = scree.varlen_softmax(scree.from_lengths(mx.array(x, dtype=mx.float64), [7]))
    np.testing.assert_allclose(np.asarray(out.values), np.exp(x) / np.exp(x).sum(), rtol=1e-14)


def test_attention_has_second_derivatives():
    arr = scree.from_lengths(mx.random.normal((3, 1, 4), key=mx.random.key(0)), [1, 2])

    def loss(q):
        return scree.varlen_attention(arr.with_values(q), arr, arr, causal=True).values.square().sum()

    first = mx.grad(loss)
    step = 1e-2 * mx.ones_like(arr.values)
    expected = (first(arr.values + step) - first(arr.values - step)) / 2e-2
    got = mx.grad(lambda q: first(q).sum())(arr.values)
    # The rows of the Hessian added up are its product with ones.
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), atol=1e-2)


def test_rows_are_cut_by_offsets_that_have_values(arr):
    compiled = mx.compile(lambda v, o: list(scree.Array(v, o)))
    with pytest.raises(scree.UnsupportedError, match=r"under mx\.compile or mx\.vmap; make the Array outside"):
        compiled(arr.values, arr.offsets)


def test_broken_offsets_are_refused_where_they_are_read(arr):
    for offsets, match in (([0, 3, 2, 4], "non-decreasing"), ([0, 3, 9], r"offsets\[-1\] \(9\) must equal the number")):
        broken = scree.Array(mx.zeros((4, 1, 2)), mx.array(offsets))
        with pytest.raises(scree.ShapeError, match=match):
            scree.varlen_attention(broken, broken, broken)


def test_compiled_functions_may_close_over_an_array(arr):
    padded, mask = mx.compile(lambda v: scree.to_padded(arr.with_values(v)))(arr.values)
    expected, expected_mask = scree.to_padded(arr)
    assert padded.tolist() == expected.tolist()
    assert mask.tolist() == expected_mask.tolist()
