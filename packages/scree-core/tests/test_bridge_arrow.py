"""What the bridges to Arrow and Parquet say without PyArrow, or before they need it."""

import sys

import numpy as np
import pytest

from scree_core import Array, ShapeError, from_lengths
from scree_core.bridges import from_arrow, from_parquet, to_arrow
from scree_core.bridges.library import library
from scree_core.errors import ArgumentTypeError, BackendNotInstalledError


@pytest.mark.parametrize(
    ("name", "cross"),
    [
        ("to_arrow", lambda: to_arrow(from_lengths(np.zeros(3), [1, 2]))),
        ("from_arrow", lambda: from_arrow(None)),
        ("from_parquet", lambda: from_parquet("rows.parquet", "tokens")),
    ],
)
def test_without_pyarrow_the_bridges_say_what_to_install(name, cross, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BackendNotInstalledError, match=f"bridges.{name} needs pyarrow.*\n    pip install pyarrow$"):
        cross()


def test_a_library_that_is_broken_is_not_taken_for_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import what_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_needs"):
        library("broken_library", "to_broken", "broken")


def test_what_is_no_array_is_refused():
    with pytest.raises(ArgumentTypeError, match=r"arr must be a scree\.Array, got list"):
        to_arrow([[1], [2]])


def test_another_ragged_axis_is_refused_and_the_message_mends_it():
    arr = Array(np.zeros((2, 3)), np.array([0, 1, 3]), ragged_dim=1)
    with pytest.raises(ShapeError, match=r"arr\.ragged_dim is 1, .*numpy\.moveaxis\(arr\.values, 1, 0\)"):
        to_arrow(arr)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_floats_that_arrow_has_not_are_refused_and_the_message_mends_it(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    arr = from_lengths(np.zeros(3, getattr(ml_dtypes, dtype)), [3])
    with pytest.raises(ShapeError, match=rf"values of dtype {dtype}; cast first, say arr\.astype\('float32'\)"):
        to_arrow(arr)
