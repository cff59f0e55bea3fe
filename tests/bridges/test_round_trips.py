"""Over any two bridges and back: the same rows, values and dtypes, for random layouts."""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scree

b = scree.bridges


class Bridge(NamedTuple):
    """There and back, and what it needs."""

    cross: Callable[[Any], Any]
    module: str = "numpy"
    empty: bool = True
    """Whether it knows empty rows, and batches of none."""
    ids: bool = False
    """Whether it takes token ids alone."""


def padded(arr):
    return b.from_hf_padded(*b.to_hf_padded(arr))


def flattened(arr):
    batch = b.to_hf_flattened(arr)
    return b.from_hf_flattened(batch["input_ids"], batch)


def pyg(arr):
    parts = b.to_pyg(arr)
    return b.from_pyg(parts["x"], ptr=parts["ptr"], batch=parts["batch"])


def jraph(arr):
    return b.from_jraph(SimpleNamespace(**b.to_jraph(arr)))


def xformers(arr):
    tensors = b.to_torch(arr)
    return b.from_xformers(tensors.values[None], b.to_xformers(tensors))


def by_file(suffix):
    def cross(arr):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"rows{suffix}"
            b.save(path, arr)
            return b.load(path)

    return cross


def by_library(name):
    return lambda arr: b.to_numpy(b.convert(arr, name))


BRIDGES = {
    "hf_padded": Bridge(padded),
    "hf_flattened": Bridge(flattened, ids=True),
    "pyg": Bridge(pyg),
    "jraph": Bridge(jraph),
    "npz": Bridge(by_file(".npz")),
    "safetensors": Bridge(by_file(".safetensors"), "safetensors"),
    "torch": Bridge(by_library("torch"), "scree_torch"),
    "jax": Bridge(by_library("jax"), "scree_jax"),
    "mlx": Bridge(by_library("mlx"), "scree_mlx"),
    "torch_nested": Bridge(lambda arr: b.from_torch_nested(b.to_torch_nested(arr)), "scree_torch", empty=False),
    "packed_sequence": Bridge(
        lambda arr: b.from_packed_sequence(b.to_packed_sequence(arr)), "scree_torch", empty=False
    ),
    "torchrec": Bridge(lambda arr: b.from_torchrec(b.to_torchrec(arr)), "torchrec"),
    "xformers": Bridge(xformers, "xformers"),
    "arrow": Bridge(lambda arr: b.from_arrow(b.to_arrow(arr)), "pyarrow"),
    "awkward": Bridge(lambda arr: b.from_awkward(b.to_awkward(arr)), "awkward"),
    "tf_ragged": Bridge(lambda arr: b.from_tf_ragged(b.to_tf_ragged(arr)), "tensorflow"),
}
INSTALLED = [name for name, bridge in BRIDGES.items() if find_spec(bridge.module)]
DTYPES = ("int32", "float32", "float16", "bool")


@st.composite
def rows(draw, *, empty, ids):
    """Draw rows of token ids, or of features."""
    lengths = draw(st.lists(st.integers(0 if empty else 1, 7), min_size=0 if empty else 1, max_size=6))
    dtype = "int32" if ids else draw(st.sampled_from(DTYPES))
    features = () if ids else tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    seed = draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 100, (sum(lengths), *features))
    return scree.from_lengths(values.astype(dtype), lengths)


@pytest.mark.parametrize("first", INSTALLED)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_rows_cross_any_two_bridges_and_come_back(first, data):
    second = data.draw(st.sampled_from(INSTALLED))
    pair = BRIDGES[first], BRIDGES[second]
    arr = data.draw(rows(empty=all(way.empty for way in pair), ids=any(way.ids for way in pair)))
    there = b.to_numpy(pair[0].cross(arr))
    back = b.to_numpy(pair[1].cross(there))
    for found in (there, back):
        assert found.values.dtype == arr.values.dtype
        assert found.offsets.tolist() == arr.offsets.tolist()
        assert np.array_equal(found.values, arr.values)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("name", [name for name in INSTALLED if BRIDGES[name].module in ("numpy", "scree_torch")])
def test_tensors_stay_where_they_are(name, device):
    torch = pytest.importorskip("torch")
    pytest.importorskip("scree_torch")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch has no GPU here")
    if device == "cuda" and name in ("npz", "torch"):
        pytest.skip("by way of NumPy, which is on the CPU")
    bridge = BRIDGES[name]
    arr = scree.from_lengths(torch.arange(6, dtype=torch.int32, device=device), [1, 3, 2])
    found = bridge.cross(arr)
    if name in ("npz", "torch"):
        assert isinstance(found.values, np.ndarray)  # which these give
        found = b.to_torch(found)
    assert found.values.device == found.offsets.device == arr.values.device
    assert found.values.dtype == arr.values.dtype
    assert found.values.tolist() == arr.values.tolist()
    assert found.offsets.tolist() == arr.offsets.tolist()
