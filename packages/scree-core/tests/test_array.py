"""Array: construction, what it tells, what it keeps and shares, and that nothing changes it."""

import copy
import pickle
import weakref

import numpy as np
import pytest

import scree_core as scree
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend

OFFSETS = np.array([0, 2, 2, 5], np.int32)


@pytest.fixture
def arr():
    return scree.Array(np.arange(10, dtype=np.float32).reshape(5, 2), OFFSETS.copy())


@pytest.fixture
def device():
    """Return a function that makes an array whose values the host can't read without asking, as on a GPU."""
    with scree.registry.installed_for(LoopbackArray, LoopbackBackend()):
        yield lambda values: LoopbackArray(np.asarray(values))


# ------------------------------------------------------------------ construction


def test_repr_is_that_of_the_documentation():
    arr = scree.from_lengths(np.zeros((10, 4), np.float32), [3, 5, 2])
    assert repr(arr) == "scree.Array(batch_size=3, total_length=10, feature_shape=(4,), dtype=float32)"


def test_repr_names_a_ragged_axis_that_is_not_the_first():
    arr = scree.Array(np.zeros((4, 5)), OFFSETS, ragged_dim=-1)
    assert repr(arr) == "scree.Array(batch_size=3, total_length=5, ragged_dim=1, feature_shape=(4,), dtype=float64)"


@pytest.mark.parametrize(
    ("values", "offsets", "ragged_dim", "message"),
    [
        (np.array(3.0), [0, 1], 0, "^values must be at least 1-D$"),
        (np.float32(3), [0, 1], 0, "^values must be at least 1-D$"),
        (np.zeros((2, 3)), [0, 2], 5, "^ragged_dim=5 out of range for 2-D values$"),
        (np.zeros((2, 3)), [0, 2], -3, "^ragged_dim=-3 out of range for 2-D values$"),
        (np.zeros(2), [[0, 2]], 0, "^offsets must be 1-D"),
        (np.zeros(2), [], 0, "^offsets must have at least one element"),
        (np.zeros(10), [1, 10], 0, r"^offsets\[0\] must be 0, got 1$"),
        (
            np.zeros(10),
            [0, 8],
            0,
            r"^offsets\[-1\] \(8\) must equal values.shape\[ragged_dim=0\] \(10\); for dead elements.*tail=True$",
        ),
        (
            np.zeros((3, 10)),
            [0, 8],
            1,
            r"^offsets\[-1\] \(8\) must equal values.shape\[ragged_dim=1\] \(10\); for dead elements.*tail=True$",
        ),
        (np.zeros(10), [0, 5, 3, 10], 0, r"^offsets must be non-decreasing, but offsets\[2\] < offsets\[1\]"),
        (
            np.zeros(1),
            [0],
            0,
            r"^offsets\[-1\] \(0\) must equal values.shape\[ragged_dim=0\] \(1\); for dead elements.*tail=True$",
        ),
    ],
)
def test_invariants_are_value_errors_that_name_the_numbers(values, offsets, ragged_dim, message):
    with pytest.raises(ValueError, match=message) as caught:
        scree.Array(values, np.array(offsets, np.int32), ragged_dim)
    assert isinstance(caught.value, scree.ShapeError)


@pytest.mark.parametrize("dtype", ["float64", "uint8", "uint32", "bool"])
def test_offsets_of_other_dtypes_are_value_errors(dtype):
    with pytest.raises(ValueError, match=f"offsets must be integers of dtype int32 or int64, got {dtype}"):
        scree.Array(np.zeros(1), np.array([0, 1], dtype))


@pytest.mark.parametrize("values", [[1.0, 2.0], (1.0, 2.0), 3.0, None, "ab"])
def test_values_that_are_no_array_point_to_pack(values):
    with pytest.raises(scree.ArgumentTypeError, match=r"values must be an array, got .*; .* use scree.pack"):
        scree.Array(values, np.array([0, 2]))


def test_offsets_in_a_list_point_to_from_lengths():
    with pytest.raises(scree.ArgumentTypeError, match=r"offsets must be an array, got list; .* scree.from_lengths"):
        scree.Array(np.zeros(2), [0, 2])


def test_a_hint_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="max_length=2 is too small: row 2 has 3 elements"):
        scree.Array(np.zeros(5), OFFSETS, max_length=2)
    with pytest.raises(ValueError, match="min_length=1 is too large: row 1 has 0 elements"):
        scree.Array(np.zeros(5), OFFSETS, min_length=1)


def test_hints_are_keyword_only():
    with pytest.raises(TypeError):
        scree.Array(np.zeros(5), OFFSETS, 0, 3)


def test_values_and_offsets_of_different_libraries_are_refused(device):
    with pytest.raises(scree.ArgumentTypeError, match="one library, got ndarray and LoopbackArray"):
        scree.Array(np.zeros(5), device(OFFSETS))
    with pytest.raises(scree.ArgumentTypeError, match="one library, got LoopbackArray and ndarray"):
        scree.Array(device(np.zeros(5)), OFFSETS)


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_a_batch_of_no_rows_is_a_batch(shape):
    none = scree.Array(np.zeros(shape), np.array([0]))
    assert (len(none), none.total_length, none.max_length, none.min_length) == (0, 0, 0, 0)
    assert list(none) == []
    assert none.segment_ids.shape == none.positions.shape == none.lengths.shape == (0,)


@pytest.mark.parametrize("axis", [1, -2])
def test_a_negative_ragged_axis_counts_from_the_end(axis):
    arr = scree.Array(np.zeros((4, 5, 3)), OFFSETS, axis)
    assert arr.ragged_dim == 1
    assert arr.feature_shape == (4, 3)
    assert [row.shape for row in arr] == [(4, 2, 3), (4, 0, 3), (4, 3, 3)]


# ------------------------------------------------------------------ what it tells


def test_attributes_say_what_the_batch_is(arr):
    assert (arr.batch_size, len(arr), arr.total_length, arr.ndim, arr.ragged_dim) == (3, 3, 5, 2, 0)
    assert arr.feature_shape == (2,)
    assert arr.dtype == np.float32
    assert arr.device == "cpu"
    assert arr.backend.name == "numpy"
    assert (arr.max_length, arr.min_length) == (3, 0)
    assert arr.lengths.tolist() == [2, 0, 3]
    assert arr.segment_ids.tolist() == [0, 0, 2, 2, 2]
    assert arr.positions.tolist() == [0, 1, 0, 1, 2]


def test_nbytes_counts_values_and_offsets(arr):
    assert arr.nbytes == 5 * 2 * 4 + 4 * 4


def test_values_and_offsets_are_the_objects_given():
    values, offsets = np.zeros((5, 2)), OFFSETS.copy()
    arr = scree.Array(values, offsets)
    assert arr.values is values
    assert arr.offsets is offsets
    assert arr.layout.offsets is offsets


def test_hints_given_are_believed():
    arr = scree.Array(np.zeros(5), OFFSETS, max_length=8, min_length=0)
    assert (arr.max_length, arr.min_length) == (8, 0)


def test_offsets_on_a_device_leave_lengths_unknown(device):
    arr = scree.Array(device(np.zeros(5)), device(OFFSETS))
    assert (arr.max_length, arr.min_length) == (None, None)
    assert (arr.batch_size, arr.total_length) == (3, 5)
    assert scree.Array(device(np.zeros(5)), device(OFFSETS), max_length=3).max_length == 3


def test_the_truth_value_is_ambiguous(arr):
    with pytest.raises(ValueError, match=r"ambiguous; use len\(arr\) > 0"):
        bool(arr)
    with pytest.raises(scree.ArgumentError):
        assert arr == arr


def test_what_derives_from_offsets_is_made_once_for_a_layout(arr):
    doubled = arr * 2
    assert arr.segment_ids is doubled.segment_ids
    assert arr.positions is doubled.positions


def test_what_derives_from_offsets_is_read_only(arr):
    for derived in (arr.segment_ids, arr.positions):
        with pytest.raises(ValueError, match="read-only"):
            derived[0] = 1


def test_an_array_of_total_past_int32_has_int64_offsets():
    values = np.broadcast_to(np.int8(0), (2**31 + 5,))
    arr = scree.from_lengths(values, [2**31, 5])
    assert arr.offsets.dtype == np.int64
    assert arr.offsets.tolist() == [0, 2**31, 2**31 + 5]
    assert (arr.max_length, arr[1].shape, arr[1:].offsets.dtype) == (2**31, (5,), np.int64)


# ------------------------------------------------------------------ immutability and identity


@pytest.mark.parametrize("name", ["values", "layout", "ragged_dim", "offsets", "dtype", "note"])
def test_nothing_can_be_set(arr, name):
    with pytest.raises(AttributeError, match=f"immutable: can't set '{name}'; use with_values"):
        setattr(arr, name, None)


def test_nothing_can_be_deleted(arr):
    with pytest.raises(AttributeError, match="immutable: can't delete 'values'"):
        del arr.values


def test_an_array_is_hashed_by_identity(arr):
    other = scree.Array(arr.values, arr.offsets)
    assert hash(arr) == hash(arr)
    assert {arr: "a", other: "b"}[other] == "b"
    assert len({arr, other, arr}) == 2


def test_an_array_can_be_weakly_referenced(arr):
    assert weakref.ref(arr)() is arr


def test_an_array_has_no_dict(arr):
    assert not hasattr(arr, "__dict__")


def test_an_array_type_can_be_subscripted_for_annotations():
    assert scree.Array[np.ndarray].__origin__ is scree.Array


# ------------------------------------------------------------------ other values, same layout


def test_with_values_shares_the_layout(arr):
    other = arr.with_values(np.zeros((5, 7, 3), np.int8))
    assert other.layout is arr.layout
    assert (other.feature_shape, other.dtype) == ((7, 3), np.int8)


def test_with_values_refuses_another_length(arr):
    with pytest.raises(ValueError, match="values have 4 elements along axis 0, the layout has 5"):
        arr.with_values(np.zeros((4, 2)))


def test_with_values_refuses_values_without_the_ragged_axis(arr):
    moved = scree.Array(np.zeros((2, 5)), OFFSETS, 1)
    for wrong in (np.zeros(5), np.array(1.0), [1.0] * 5):
        with pytest.raises(ValueError, match="values need the ragged axis 1, got shape"):
            moved.with_values(wrong)


def test_with_values_refuses_values_of_another_library(arr, device):
    with pytest.raises(scree.ArgumentTypeError, match="one library"):
        arr.with_values(device(np.zeros((5, 2))))


@pytest.mark.parametrize("dtype", ["float16", np.float16, np.dtype("float16")])
def test_astype_takes_names_and_dtypes(arr, dtype):
    half = arr.astype(dtype)
    assert half.dtype == np.float16
    assert half.layout is arr.layout
    assert half.values.tolist() == arr.values.tolist()


def test_astype_copies_only_where_the_dtype_changes(arr):
    assert arr.astype("float32").values is arr.values
    assert not np.shares_memory(arr.astype("float64").values, arr.values)


def test_astype_knows_bfloat16(arr):
    assert arr.astype("bfloat16").dtype.name == "bfloat16"
    assert repr(arr.astype("bfloat16")).endswith("dtype=bfloat16)")


def test_validate_returns_the_array(arr):
    assert arr.validate() is arr


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([1, 5], r"offsets\[0\] must be 0, got 1"),
        ([0, 3, 2, 5], r"offsets\[2\] < offsets\[1\]"),
        ([0, 2, 4], r"offsets\[-1\] \(4\) must equal values.shape\[ragged_dim=0\] \(5\)"),
        ([0, 1, 5], "max_length=3 is too small: row 1 has 4 elements"),
        ([0, 3, 3, 5], "min_length=1 is too large: row 1 has 0 elements"),
    ],
)
def test_validate_finds_what_only_the_device_knew(device, offsets, message):
    arr = scree.Array(device(np.zeros(5)), device(np.array(offsets)), max_length=3, min_length=1)
    with pytest.raises(ValueError, match=message):
        arr.validate()


# ------------------------------------------------------------------ copies


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_deep_copies_share_layouts_as_the_originals_do(arr, again):
    first, second = again([arr, arr + 1])
    assert first.layout is second.layout
    assert first.layout is not arr.layout
    assert not np.shares_memory(first.values, arr.values)
    assert first.values.tolist() == arr.values.tolist()
    assert first.offsets.dtype == arr.offsets.dtype


def test_a_shallow_copy_shares_everything(arr):
    again = copy.copy(arr)
    assert again is not arr
    assert (again.values is arr.values, again.layout is arr.layout) == (True, True)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_keep_hints_and_the_ragged_axis(again):
    arr = scree.Array(np.zeros((2, 5)), OFFSETS, -1, max_length=9)
    assert (again(arr).max_length, again(arr).ragged_dim) == (9, 1)


def test_copies_of_arrays_over_files_keep_their_host_offsets(tmp_path):
    file = tmp_path / "offsets"
    OFFSETS.tofile(file)
    offsets = np.memmap(file, np.int32, mode="r+")
    back = copy.copy(scree.Array(np.zeros(5), offsets).layout)
    assert back.host is not None


def test_reading_rows_leaves_the_users_offsets_writable(tmp_path):
    file = tmp_path / "offsets"
    OFFSETS.tofile(file)
    offsets = np.memmap(file, np.int32, mode="r+")
    list(scree.Array.trusted(np.zeros(5), scree.Layout(offsets)))
    assert offsets.flags.writeable
