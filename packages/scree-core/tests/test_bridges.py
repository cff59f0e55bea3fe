"""The bridges that need no framework: Hugging Face's padded batches, and NumPy."""

import numpy as np
import pytest

from scree_core import Array, ShapeError, from_lengths
from scree_core.bridges import from_hf_padded, to_hf_padded, to_numpy
from scree_core.errors import ArgumentTypeError
from scree_core.numpy_backend import NumpyBackend
from scree_core.registry import installed_for


class Boxed:
    """An array type of another library, as far as these bridges can tell."""

    def __init__(self, inner):
        self.inner, self.shape, self.dtype = inner, inner.shape, inner.dtype


class BoxedBackend(NumpyBackend):
    name = "boxed"

    def owns(self, x):
        return isinstance(x, Boxed)

    def from_numpy(self, a, *, like=None):
        return Boxed(a)

    def to_numpy(self, x):
        return x.inner

    def host_view(self, x):
        return None


@pytest.fixture
def boxed():
    with installed_for(Boxed, BoxedBackend()):
        yield Boxed


@pytest.fixture
def ids():
    return from_lengths(np.array([5, 6, 7, 8, 9, 10]), [1, 0, 3, 2])


def test_the_attention_mask_is_int64_ones_and_zeros(ids):
    _, attention_mask = to_hf_padded(ids)
    assert attention_mask.dtype == np.int64
    assert attention_mask.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 0]]


def test_left_padding_pads_on_the_left_with_the_fill_value(ids):
    hidden_states, attention_mask = to_hf_padded(ids, side="left", fill_value=-100)
    assert hidden_states.tolist() == [[-100, -100, 5], [-100, -100, -100], [6, 7, 8], [-100, 9, 10]]
    assert attention_mask.tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 1]]


def test_max_length_widens_the_batch(ids):
    hidden_states, attention_mask = to_hf_padded(ids, max_length=8)
    assert hidden_states.shape == attention_mask.shape == (4, 8)


def test_max_length_never_cuts_a_row(ids):
    with pytest.raises(ShapeError, match="max_length=2 is shorter than the longest row"):
        to_hf_padded(ids, max_length=2)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mask_dtype", [np.bool_, np.int32, np.int64, np.float32])
def test_hidden_states_round_trip_through_masks_of_every_dtype(side, mask_dtype):
    arr = from_lengths(np.random.default_rng(0).standard_normal((6, 4), np.float32), [0, 2, 4, 0])
    hidden_states, attention_mask = to_hf_padded(arr, side, fill_value=np.nan)
    back = from_hf_padded(hidden_states, attention_mask.astype(mask_dtype))
    assert np.array_equal(back.values, arr.values)
    assert np.array_equal(back.offsets, arr.offsets)


def test_an_additive_mask_is_refused():
    additive = np.array([[0.0, -np.inf]])
    with pytest.raises(ShapeError, match="mask must be bool, or hold 0 and 1 alone"):
        from_hf_padded(np.zeros((1, 2, 4)), additive)


def test_a_four_dimensional_mask_is_refused():
    with pytest.raises(ShapeError, match=r"mask must have shape \(batch, length\) = \(1, 2\)"):
        from_hf_padded(np.zeros((1, 2, 4)), np.ones((1, 1, 2, 2)))


def test_a_numpy_array_converts_to_itself(ids):
    assert to_numpy(ids) is ids


@pytest.mark.parametrize("offset_dtype", [np.int32, np.int64])
def test_values_offsets_and_axis_of_another_library_are_kept(boxed, offset_dtype):
    values, offsets = np.arange(6.0).reshape(2, 3), np.array([0, 1, 3], offset_dtype)
    arr = to_numpy(Array(boxed(values), boxed(offsets), ragged_dim=1))
    assert arr.values is values
    assert arr.offsets is offsets
    assert arr.ragged_dim == 1


def test_a_tail_and_length_hints_of_another_library_are_kept(boxed):
    offsets = boxed(np.array([0, 1, 3], np.int32))
    arr = to_numpy(Array(boxed(np.arange(5.0)), offsets, max_length=8, min_length=1, tail=True))
    assert arr.layout.tail
    assert (arr.max_length, arr.min_length, arr.total_length) == (8, 1, 5)


def test_offsets_that_only_the_device_knew_are_checked_when_they_arrive(boxed):
    arr = Array(boxed(np.arange(3.0)), boxed(np.array([0, 2, 1, 3], np.int32)))
    with pytest.raises(ShapeError, match="offsets must be non-decreasing"):
        to_numpy(arr)


def test_what_is_no_array_is_refused():
    with pytest.raises(ArgumentTypeError, match=r"arr must be a scree\.Array, got ndarray"):
        to_numpy(np.zeros(3))
