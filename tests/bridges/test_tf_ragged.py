"""TensorFlow's ragged tensors, with the real package."""

import numpy as np
import pytest

from scree_core import Array, ShapeError, from_lengths
from scree_core.bridges import from_tf_ragged, to_tf_ragged
from scree_core.errors import ArgumentTypeError

from .rows import RowsComeBack, check_equal, make

tf = pytest.importorskip("tensorflow", reason="the bridge to TensorFlow needs it")
ml_dtypes = pytest.importorskip("ml_dtypes", reason="TensorFlow's bfloat16 is that of ml_dtypes")

ALIGNMENT = 64  # bytes, of every tensor that TensorFlow allocates


# ------------------------------------------------------------------ there and back


class TestRows(RowsComeBack):
    there, back = staticmethod(to_tf_ragged), staticmethod(from_tf_ragged)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int64", "uint64", "float16", ml_dtypes.bfloat16, "float64", "complex64"]
)
def test_dtypes_come_back(dtype):
    check_equal(from_tf_ragged(to_tf_ragged(make((2,), dtype))), make((2,), dtype))


@pytest.mark.parametrize("offset_dtype", [np.int32, np.int64])
def test_tensorflow_sees_the_rows_and_their_dtypes(offset_dtype):
    ragged = to_tf_ragged(make(offset_dtype=offset_dtype))
    assert ragged.to_list() == [[0, 1], [], [2, 3, 4]]
    assert ragged.row_splits.dtype == tf.as_dtype(offset_dtype)
    assert to_tf_ragged(make((3, 2), ml_dtypes.bfloat16)).dtype == tf.bfloat16
    assert to_tf_ragged(make((3, 2))).shape.as_list() == [3, None, 3, 2]


def test_a_ragged_tensor_of_uniform_rows_is_fine():
    ragged = tf.RaggedTensor.from_uniform_row_length(tf.range(6), 3)
    assert from_tf_ragged(ragged).lengths.tolist() == [3, 3]


def test_a_slice_is_the_rows_it_shows():
    assert [row.tolist() for row in from_tf_ragged(to_tf_ragged(make())[1:])] == [[], [2, 3, 4]]


def test_a_tail_is_left_out():
    arr = Array(np.arange(7.0), np.array([0, 1, 4], np.int32), tail=True)
    assert to_tf_ragged(arr).to_list() == [[0], [1, 2, 3]]
    assert to_tf_ragged(arr).values.shape == (4,)


# ------------------------------------------------------------------ what is shared


@pytest.mark.parametrize("dtype", ["float32", ml_dtypes.bfloat16])
def test_an_array_shares_what_tensorflow_has_and_may_not_write_to_it(dtype):
    with tf.device("CPU"):
        ragged = to_tf_ragged(make((2,), dtype))
    first, second = from_tf_ragged(ragged), from_tf_ragged(ragged)
    assert first.values.ctypes.data == second.values.ctypes.data
    assert first.offsets.ctypes.data == second.offsets.ctypes.data
    assert not first.values.flags.writeable
    assert not first.offsets.flags.writeable


def test_shared_memory_outlives_the_tensor():
    arr = from_tf_ragged(to_tf_ragged(from_lengths(np.arange(10_000.0), [10_000])))
    noise = [tf.fill([10_000], -1.0) for _ in range(8)]
    assert len(noise) == 8
    assert np.array_equal(arr.values, np.arange(10_000.0))


@pytest.mark.parametrize("shift", [0, 4])
def test_tensorflow_gets_a_copy_however_numpys_memory_is_aligned(shift):
    room = np.zeros(400 + ALIGNMENT + shift, np.uint8)
    start = -room.ctypes.data % ALIGNMENT + shift
    values = room[start : start + 400].view(np.float32)
    ragged = to_tf_ragged(from_lengths(values, [40, 60]))
    values[:] = 1
    assert float(tf.reduce_sum(ragged.values)) == 0


# ------------------------------------------------------------------ what is refused


def test_several_ragged_axes_are_refused_and_the_message_mends_it():
    ragged = tf.ragged.constant([[[1], [2, 3]], [[4]]])
    with pytest.raises(ShapeError, match=r"ragged_rank 2 and shape .*ragged\.values.*ragged\.merge_dims\(1, 2\)"):
        from_tf_ragged(ragged)
    assert from_tf_ragged(ragged.values).lengths.tolist() == [1, 2, 1]
    assert from_tf_ragged(ragged.merge_dims(1, 2)).lengths.tolist() == [3, 1]


@pytest.mark.parametrize("wrong", [[[1], [2]], np.zeros(3), None])
def test_what_is_no_ragged_tensor_is_refused(wrong):
    with pytest.raises(ArgumentTypeError, match=r"ragged must be a tf\.RaggedTensor, got"):
        from_tf_ragged(wrong)


def test_a_dense_tensor_is_refused_and_the_message_mends_it():
    dense = tf.zeros((2, 3))
    with pytest.raises(ArgumentTypeError, match=r"got EagerTensor; wrap it with tf\.RaggedTensor\.from_tensor"):
        from_tf_ragged(dense)
    assert from_tf_ragged(tf.RaggedTensor.from_tensor(dense)).lengths.tolist() == [3, 3]


def test_inside_a_tf_function_there_are_no_values_to_convert():
    @tf.function(autograph=False)  # AutoGraph wraps errors in one of its own
    def convert(ragged):
        from_tf_ragged(ragged)

    with pytest.raises(ArgumentTypeError, match=r"ragged is symbolic: inside a tf\.function it has no values yet"):
        convert(to_tf_ragged(make()))


def test_strings_are_refused():
    with pytest.raises(ShapeError, match="ragged holds string, but an Array holds numbers or bool"):
        from_tf_ragged(tf.ragged.constant([["a"], []]))


@pytest.mark.parametrize(
    ("splits", "message"), [([0, 2, 1, 3], "non-decreasing"), ([0, 9], "must equal"), ([1, 3], "0")]
)
def test_row_splits_that_are_wrong_are_found(splits, message):
    ragged = tf.RaggedTensor.from_row_splits(tf.range(3), splits, validate=False)
    with pytest.raises(ShapeError, match=message):
        from_tf_ragged(ragged)


def test_a_dtype_that_tensorflow_has_not_is_refused():
    with pytest.raises(ShapeError, match="TensorFlow can't hold values of dtype"):
        to_tf_ragged(from_lengths(np.zeros(3, np.longdouble), [3]))
