"""Files of Arrays: what comes back, what plain readers see, and what damaged files say."""

import builtins
import json
import os
import sys

import ml_dtypes
import numpy as np
import pytest

from scree_core import Array, bucket, from_lengths
from scree_core.bridges import files, load, manifest, save
from scree_core.errors import ArgumentError, ArgumentTypeError, BackendNotInstalledError, ScreeError, ShapeError
from scree_core.registry import installed_for
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend

DTYPES = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 bfloat16".split()  # noqa: SIM905
)


@pytest.fixture(params=["npz", "safetensors"])
def path(request, tmp_path):
    if request.param == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors isn't installed")
    return tmp_path / f"batch.{request.param}"


@pytest.fixture
def npz(tmp_path):
    return tmp_path / "batch.npz"


def round_trip(arrays, path, **options):
    save(path, arrays)
    return load(path, **options)


def check_equal(a, b):
    assert a.values.dtype == b.values.dtype
    assert np.array_equal(a.values, b.values)
    assert a.offsets.dtype == b.offsets.dtype
    assert np.array_equal(a.offsets, b.offsets)
    assert (a.ragged_dim, a.layout.tail) == (b.ragged_dim, b.layout.tail)
    assert (a.max_length, a.min_length, a.total_length) == (b.max_length, b.min_length, b.total_length)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_of_every_dtype_come_back(path, dtype):
    values = np.array([[1, 0], [1, 1], [0, 1]]).astype(getattr(ml_dtypes, dtype, dtype))
    arr = from_lengths(values, [1, 0, 2])
    check_equal(round_trip(arr, path), arr)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [2, 0, 3]])
@pytest.mark.parametrize("offset_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("features", [(), (4,), (0,), (2, 3)])
def test_shapes_and_offsets_come_back(path, lengths, offset_dtype, features):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(offset_dtype)
    arr = Array(np.random.default_rng(0).standard_normal((sum(lengths), *features)), offsets)
    check_equal(round_trip(arr, path), arr)


@pytest.mark.parametrize("ragged_dim", [0, 1, 2])
def test_any_ragged_axis_comes_back(path, ragged_dim):
    arr = from_lengths(np.arange(27.0).reshape(3, 3, 3), [1, 2], ragged_dim=ragged_dim)
    check_equal(round_trip(arr, path), arr)


@pytest.mark.parametrize("values", [np.arange(6.0).reshape(2, 3).T, np.arange(6.0)[::-2], np.arange(3, dtype=">f4")])
def test_values_of_any_strides_and_byte_order_come_back(path, values):
    back = round_trip(from_lengths(values, [1, 2]), path)
    assert np.array_equal(back.values, values)
    assert back.values.dtype.isnative


def test_a_tail_and_hints_that_are_mere_bounds_come_back(path):
    arr = bucket(from_lengths(np.arange(5.0), [2, 3, 0]), max_length=100)
    back = round_trip(arr, path)
    check_equal(back, arr)
    assert back.layout.tail
    assert back.max_length == 100


def test_names_come_back_in_order_with_shared_layouts(path):
    ids = from_lengths(np.arange(3), [1, 2])
    arrays = {
        "z": ids,
        "features/x.values": ids.with_values(np.ones((3, 2), np.float32)),
        "équal": from_lengths(np.zeros(3), [1, 2]),
        "other": from_lengths(np.zeros(3), [2, 1]),
        "wide": Array(np.zeros(3), np.array([0, 1, 3])),
    }
    found = round_trip(arrays, path)
    assert list(found) == list(arrays)
    for name, arr in arrays.items():
        check_equal(found[name], arr)
    assert found["z"].layout is found["features/x.values"].layout is found["équal"].layout
    assert len({id(found[name].layout) for name in ("z", "other", "wide")}) == 3
    assert round_trip({}, path) == {}


def test_layouts_that_differ_in_hints_or_dtype_alone_stay_apart(path):
    offsets = np.array([0, 1, 3])
    arrays = {
        "measured": Array(np.ones(3), offsets),
        "bounded": Array(np.ones(3), offsets, max_length=9),
        "tailed": Array(np.ones(3), offsets, tail=True),
        "no rows": Array(np.ones(0), np.array([0], np.int64)),
        "one empty row": Array(np.ones(0), np.array([0, 0], np.int32)),  # of the same bytes as the one before
    }
    found = round_trip(arrays, path)
    for name, arr in arrays.items():
        check_equal(found[name], arr)


def test_a_mapping_of_one_is_no_array(path):
    assert list(round_trip({"x": from_lengths(np.ones(1), [1])}, path)) == ["x"]


def test_numpy_alone_reads_an_npz(npz):
    arr = from_lengths(np.arange(3.0), [1, 2])
    save(npz, arr)
    with np.load(npz, allow_pickle=False) as found:
        assert set(found.files) == {"values", "offsets", "scree"}
        assert np.array_equal(found["values"], arr.values)
        assert np.array_equal(found["offsets"], arr.offsets)
    save(npz, {"x": arr, "y": arr.astype(ml_dtypes.bfloat16)})
    with np.load(npz, allow_pickle=False) as found:
        assert set(found.files) == {"x.values", "y.values", "offsets.0", "scree"}
        assert np.array_equal(found["y.values"].view(ml_dtypes.bfloat16), [0, 1, 2])
        assert json.loads(str(found["scree"]))["format"] == 1


def test_arrays_of_another_library_go_in_and_come_out(path):
    with installed_for(LoopbackArray, LoopbackBackend()):
        arr = Array(LoopbackArray(np.arange(5.0)), LoopbackArray(np.array([0, 1, 3])), tail=True, max_length=7)
        other = arr.with_values(LoopbackArray(np.ones((5, 2))))
        found = round_trip({"x": arr, "y": other}, path, backend="loopback")
        assert found["x"].values.host.tolist() == [0, 1, 2, 3, 4]
        assert found["x"].offsets.host.tolist() == [0, 1, 3]
        assert found["x"].layout is found["y"].layout
        assert (found["x"].max_length, found["x"].layout.tail) == (7, True)
        assert isinstance(load(path)["x"].values, np.ndarray)


def test_offsets_that_only_the_device_knew_are_checked_before_they_are_written(path):
    with installed_for(LoopbackArray, LoopbackBackend()):
        arr = Array(LoopbackArray(np.arange(3.0)), LoopbackArray(np.array([0, 2, 1, 3])))
        with pytest.raises(ShapeError, match="non-decreasing"):
            save(path, arr)
    assert not path.exists()


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("name", ["batch", "batch.pt", "batch.npy"])
def test_other_suffixes_are_refused(tmp_path, name):
    for call in (lambda: save(tmp_path / name, {}), lambda: load(tmp_path / name)):
        with pytest.raises(ArgumentError, match=r"must be \.safetensors or \.npz, got"):
            call()
    with pytest.raises(ArgumentTypeError, match="path must be a path, got int"):
        load(3)


def test_suffixes_may_be_capitals(tmp_path):
    check_equal(round_trip(arr := from_lengths(np.ones(1), [1]), str(tmp_path / "batch.NPZ")), arr)


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "a\\b", "\ud800"])
def test_names_that_a_file_would_change_are_refused(path, name):
    with pytest.raises(ArgumentError, match="a name must be printable, not empty, and without backslashes"):
        save(path, {name: from_lengths(np.ones(1), [1])})
    assert not path.exists()


def test_what_is_no_array_is_refused(path):
    with pytest.raises(
        ArgumentTypeError, match=r"arrays must be a scree\.Array or a mapping of names to them, got list"
    ):
        save(path, [from_lengths(np.ones(1), [1])])
    with pytest.raises(ArgumentTypeError, match=r"arrays\['x'\] must be a scree\.Array, got ndarray"):
        save(path, {"x": np.ones(1)})
    with pytest.raises(ArgumentTypeError, match="names must be strings, got 1"):
        save(path, {1: from_lengths(np.ones(1), [1])})


@pytest.mark.parametrize("dtype", [object, "U3", "datetime64[s]", np.dtype([("a", "f4")]), np.longdouble])
def test_dtypes_that_a_file_cannot_hold_are_refused(path, dtype):
    with pytest.raises(ShapeError, match=f"a {path.suffix} file can't hold values of 'x' of dtype"):
        save(path, {"x": from_lengths(np.zeros(1, dtype), [1])})
    assert not path.exists()


def test_no_other_backend_than_an_installed_library_is_loaded_for(npz, plugins, overlay):
    save(npz, from_lengths(np.ones(1), [1]))
    plugins({"numpy.fast": overlay("numpy.fast")})
    with pytest.raises(BackendNotInstalledError, match="no scree backend 'abacus' is installed"):
        load(npz, backend="abacus")
    with pytest.raises(ArgumentError, match=r"must name a library of arrays, got 'numpy\.fast'; for this one 'numpy'"):
        load(npz, backend="numpy.fast")


def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    message = r"save/load needs safetensors.*use \.npz\.\n    pip install safetensors"
    for call in (lambda: save(tmp_path / "x.safetensors", {}), lambda: load(tmp_path / "x.safetensors")):
        with pytest.raises(BackendNotInstalledError, match=message):
            call()


def test_bfloat16_without_ml_dtypes_says_what_to_install(path, monkeypatch):
    save(path, from_lengths(np.ones(1, ml_dtypes.bfloat16), [1]))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(BackendNotInstalledError, match="    pip install ml-dtypes"):
        load(path)


# ------------------------------------------------------------------ how it is written


def test_a_failed_save_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    old = from_lengths(np.arange(3), [1, 2])
    save(path, old)

    def fail(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        save(path, from_lengths(np.arange(4), [4]))
    check_equal(load(path), old)
    assert os.listdir(path.parent) == [path.name]


def test_a_file_of_that_name_is_replaced_in_one_step(path, monkeypatch):
    save(path, from_lengths(np.arange(3), [1, 2]))
    replaced = []
    monkeypatch.setattr(os, "replace", lambda a, b: replaced.append((a.parent, b)))
    save(path, from_lengths(np.arange(4), [4]))
    assert replaced == [(path.parent, path)]
    assert load(path).batch_size == 2


def test_a_saved_file_may_be_read_by_whoever_may_read_new_files(path):
    save(path, from_lengths(np.ones(1), [1]))
    (path.parent / "other").touch()
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode


def test_a_missing_folder_or_file_is_named(path):
    with pytest.raises(FileNotFoundError):
        save(path.parent / "missing" / path.name, from_lengths(np.ones(1), [1]))
    with pytest.raises(FileNotFoundError, match=path.name):
        load(path)


# ------------------------------------------------------------------ damaged files


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(path, kept):
    save(path, from_lengths(np.arange(1000.0), [400, 600]))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ArgumentError, match="is cut off, damaged, or no"):
        load(path)


def test_no_flipped_byte_of_an_npz_goes_unseen_or_raises_anything_else(npz):
    arr = from_lengths(np.arange(3.0), [1, 2])
    save(npz, arr)
    whole = npz.read_bytes()
    for at in range(0, len(whole), 5):
        npz.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            found = load(npz)
        except ScreeError:
            continue
        check_equal(found, arr)  # times and the like


def test_pickles_are_never_opened(npz):
    np.savez(npz, values=np.array([print], dtype=object), scree=np.array("{}"))
    with pytest.raises(ArgumentError, match="allow_pickle=False"):
        load(npz)


def test_files_of_others_are_told_from_damaged_ones(npz):
    np.savez(npz, x=np.ones(3), y=np.array([print], dtype=object))
    with pytest.raises(ArgumentError, match=r"wasn't written by scree\.bridges\.save: .* only x, y; wrap values"):
        load(npz)


def tampered(npz, change=lambda found: None, **tensors):
    """Write a file whose manifest or tensors somebody has changed."""
    save(npz, {"x": from_lengths(np.arange(3.0), [1, 2])})
    with np.load(npz) as file:
        held = dict(file)
    found = json.loads(str(held["scree"]))
    change(found)
    np.savez(npz, **{**held, **tensors, "scree": np.array(json.dumps(found))})


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 2, 1, 3], "non-decreasing"),
        ([1, 3], r"offsets\[0\] must be 0"),
        ([0, 2, 4], r"offsets\[-1\] \(4\) must equal the length of x.values \(3\)"),
        ([0, 2], r"offsets\[-1\] \(2\) must equal"),
        ([0.0, 3.0], "int32 or int64"),
        ([[0, 3]], "1-D"),
        ([0, 3], "max_length=2 is too small"),
    ],
)
def test_tampered_offsets_are_refused_with_the_name_of_the_file(npz, offsets, message):
    tampered(npz, **{"offsets.0": np.asarray(offsets)})
    with pytest.raises(ShapeError, match=rf"batch\.npz: .*{message}"):
        load(npz)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("format"), "it isn't the JSON that save writes"),
        (lambda found: found.update(format="1"), "its format is '1'"),
        (lambda found: found.update(format=0), "its format is 0"),
        (lambda found: found.pop("arrays"), "KeyError: 'arrays'"),
        (lambda found: found.update(arrays=[3]), "TypeError"),
        (lambda found: found["arrays"][0].pop("values"), "TypeError.*values"),
        (lambda found: found["arrays"][0].update(values="y"), "there is no tensor 'y'"),
        (lambda found: found["arrays"][0].update(values=["x"]), r"there is no tensor \['x'\]"),
        (lambda found: found["arrays"][0].update(dtype="float32"), "x.values is float64, not float32"),
        (lambda found: found["arrays"][0].update(dtype="bfloat16", values=[]), "there is no tensor"),
        (lambda found: found["arrays"][0].update(layout=1), "there is no layout 1"),
        (lambda found: found["arrays"][0].update(layout=-1), "an array is"),
        (lambda found: found["arrays"][0].update(ragged_dim="0"), "an array is"),
        (lambda found: found["arrays"][0].update(name=3), "an array is"),
        (lambda found: found["arrays"].append(found["arrays"][0]), "its names are"),
        (lambda found: found["arrays"].append({**found["arrays"][0], "name": None}), "its names are"),
        (lambda found: found["layouts"][0].update(offsets="o"), "there is no tensor 'o'"),
        (lambda found: found["layouts"][0].update(tail=1), "a layout is"),
        (lambda found: found["layouts"][0].update(max_length=-1), "a layout is"),
    ],
)
def test_a_tampered_manifest_is_refused(npz, change, message):
    tampered(npz, change)
    with pytest.raises(ArgumentError, match=rf"the entry 'scree' of .*batch\.npz is damaged: .*{message}.*save the"):
        load(npz)


def test_a_ragged_axis_that_values_lack_is_refused(npz):
    tampered(npz, lambda found: found["arrays"][0].update(ragged_dim=1))
    with pytest.raises(ShapeError, match=r"x\.values has 1 axes, but ragged_dim=1"):
        load(npz)


def test_arrays_that_cannot_share_a_layout_are_refused(npz):
    def share(found):
        found["layouts"][0]["tail"] = True
        found["arrays"].append({**found["arrays"][0], "name": "y", "values": "y.values"})

    tampered(npz, share, **{"y.values": np.arange(4.0)})
    with pytest.raises(ShapeError, match=r"y\.values has 4 elements, others of its layout have 3"):
        load(npz)


def test_a_file_of_a_newer_format_asks_for_an_upgrade(path, monkeypatch):
    monkeypatch.setattr(manifest, "FORMAT", 2)
    save(path, from_lengths(np.ones(1), [1]))
    monkeypatch.undo()
    with pytest.raises(ArgumentError, match="is of format 2, this scree reads up to 1; upgrade scree"):
        load(path)


def test_a_file_that_must_not_be_read_is_not_called_damaged(npz, monkeypatch):
    save(npz, from_lengths(np.ones(1), [1]))

    def refuse(*args, **kwargs):
        raise PermissionError("not yours")

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(PermissionError, match="not yours"):
        load(npz)


def test_each_kind_of_file_says_what_it_holds():
    assert all({"write", "read", "check_installed", "DTYPES"} <= set(vars(kind)) for kind in files.KINDS.values())
