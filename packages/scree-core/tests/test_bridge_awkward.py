"""What the bridges to Awkward say without it, or before they need it."""

import sys

import numpy as np
import pytest

from scree_core import Array, ShapeError, from_lengths
from scree_core.bridges import from_awkward, to_awkward
from scree_core.errors import ArgumentTypeError, BackendNotInstalledError


@pytest.mark.parametrize(
    ("name", "cross"),
    [
        ("to_awkward", lambda: to_awkward(from_lengths(np.zeros(3), [1, 2]))),
        ("from_awkward", lambda: from_awkward(None)),
    ],
)
def test_without_awkward_the_bridges_say_what_to_install(name, cross, monkeypatch):
    monkeypatch.setitem(sys.modules, "awkward", None)
    with pytest.raises(BackendNotInstalledError, match=f"bridges.{name} needs awkward.*\n    pip install awkward$"):
        cross()


def test_what_is_no_array_is_refused():
    with pytest.raises(ArgumentTypeError, match=r"arr must be a scree\.Array, got list"):
        to_awkward([[1], [2]])


def test_another_ragged_axis_is_refused_and_the_message_mends_it():
    arr = Array(np.zeros((2, 3)), np.array([0, 1, 3]), ragged_dim=1)
    with pytest.raises(ShapeError, match=r"arr\.ragged_dim is 1, .*numpy\.moveaxis\(arr\.values, 1, 0\)"):
        to_awkward(arr)
