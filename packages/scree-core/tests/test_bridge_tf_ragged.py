"""What the bridges to TensorFlow say without it, or before they need it."""

import sys

import numpy as np
import pytest

from scree_core import Array, ShapeError, from_lengths
from scree_core.bridges import from_tf_ragged, to_tf_ragged
from scree_core.errors import ArgumentTypeError, BackendNotInstalledError


@pytest.mark.parametrize(
    ("name", "cross"),
    [
        ("to_tf_ragged", lambda: to_tf_ragged(from_lengths(np.zeros(3), [1, 2]))),
        ("from_tf_ragged", lambda: from_tf_ragged(None)),
    ],
)
def test_without_tensorflow_the_bridges_say_what_to_install(name, cross, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(BackendNotInstalledError, match=f"{name} needs tensorflow.*\n    pip install tensorflow$"):
        cross()


def test_what_is_no_array_is_refused():
    with pytest.raises(ArgumentTypeError, match=r"arr must be a scree\.Array, got list"):
        to_tf_ragged([[1], [2]])


def test_another_ragged_axis_is_refused_and_the_message_mends_it():
    arr = Array(np.zeros((2, 3)), np.array([0, 1, 3]), ragged_dim=1)
    with pytest.raises(ShapeError, match=r"arr\.ragged_dim is 1, .*numpy\.moveaxis\(arr\.values, 1, 0\)"):
        to_tf_ragged(arr)


@pytest.mark.parametrize("dtype", ["U1", "O", "datetime64[s]"])
def test_values_that_are_no_numbers_are_refused(dtype):
    with pytest.raises(ShapeError, match="aren't numbers"):
        to_tf_ragged(from_lengths(np.zeros(3, dtype), [3]))
