"""Files against the library safetensors itself, from and to every array library."""

import pytest

pytest.importorskip("safetensors", reason="safetensors isn't installed")

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

import scree
import scree.bridges
from scree_core import registry

MODULES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "mlx": "mlx.core"}


def test_safetensors_alone_reads_values_offsets_and_metadata(tmp_path):
    path = tmp_path / "batch.safetensors"
    x = scree.from_lengths(np.arange(6, dtype=np.float32).reshape(3, 2).T.copy().T, [1, 2])
    scree.bridges.save(path, {"x": x, "y": x.astype(ml_dtypes.bfloat16)})
    found = safetensors.numpy.load_file(path)
    assert set(found) == {"x.values", "y.values", "offsets.0"}
    assert np.array_equal(found["x.values"], x.values)
    assert found["offsets.0"].tolist() == [0, 1, 3]
    assert found["y.values"].dtype == ml_dtypes.bfloat16
    with safetensors.safe_open(path, "numpy") as file:
        assert '"format": 1' in file.metadata()["scree"]


def test_torch_reads_the_file_without_scree(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    path = tmp_path / "batch.safetensors"
    scree.bridges.save(path, scree.from_lengths(np.ones((3, 2), ml_dtypes.bfloat16), [1, 2]))
    found = load_file(path)
    assert found["values"].dtype == torch.bfloat16
    assert found["offsets"].tolist() == [0, 1, 3]


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
@pytest.mark.parametrize("name", MODULES)
def test_arrays_of_every_library_come_back(tmp_path, suffix, dtype, name):
    pytest.importorskip(MODULES[name])
    pytest.importorskip(f"scree_{name}" if name != "numpy" else "scree_core")
    host = np.array([[1, 0], [1, 1], [0, 1]]).astype(getattr(ml_dtypes, dtype, dtype))
    arr = scree.from_lengths(registry.load(name).from_numpy(host.copy()), [1, 2])
    path = tmp_path / f"batch.{suffix}"
    scree.bridges.save(path, arr)
    back = scree.bridges.load(path, backend=name)
    assert type(back.values) is type(arr.values)
    assert type(back.offsets) is type(arr.offsets)
    assert back.dtype == arr.dtype
    assert np.array_equal(back.backend.to_numpy(back.values), host)
    assert np.array_equal(scree.bridges.load(path).values, host)


def test_a_file_that_somebody_else_wrote_is_told_from_a_damaged_one(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"weight": np.ones(3)}, path)
    with pytest.raises(scree.ArgumentError, match=r"wasn't written by scree\.bridges\.save: .* only weight;"):
        scree.bridges.load(path)


def test_every_cut_of_a_file_is_refused(tmp_path):
    path = tmp_path / "batch.safetensors"
    scree.bridges.save(path, scree.from_lengths(np.arange(3.0), [1, 2]))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(scree.ArgumentError, match="is cut off, damaged, or no"):
            scree.bridges.load(path)


def test_flipped_bytes_of_the_header_raise_no_other_error(tmp_path):
    path = tmp_path / "batch.safetensors"
    arr = scree.from_lengths(np.arange(3.0), [1, 2])
    scree.bridges.save(path, arr)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found = scree.bridges.load(path)
        except scree.ScreeError:
            continue
        assert found is not None
