"""pack and unpack: what becomes a row, what is refused by its index, and what is shared."""

import numpy as np
import pytest

import scree_core as scree
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend


def test_packing_joins_in_order():
    arr = scree.pack([np.array([1, 2]), np.array([], int), np.array([3])])
    assert arr.values.tolist() == [1, 2, 3]
    assert arr.offsets.tolist() == [0, 2, 2, 3]
    assert arr.offsets.dtype == np.int32
    assert (arr.max_length, arr.min_length) == (2, 0)


def test_packing_copies():
    row = np.zeros(3)
    arr = scree.pack([row])
    assert not np.shares_memory(arr.values, row)


@pytest.mark.parametrize("arrays", [(np.zeros(2), np.zeros(1)), iter([np.zeros(2), np.zeros(1)]), np.zeros((2, 1))])
def test_any_iterable_of_arrays_packs(arrays):
    assert len(scree.pack(arrays)) == 2


def test_the_rows_of_an_array_pack_to_it():
    arr = scree.from_lengths(np.arange(6.0), [1, 2, 3])
    assert scree.pack(arr).offsets.tolist() == arr.offsets.tolist()


@pytest.mark.parametrize("ragged_dim", [1, -2])
def test_packing_along_another_axis(ragged_dim):
    rows = [np.full((2, n, 3), n) for n in (2, 0, 1)]
    arr = scree.pack(rows, ragged_dim)
    assert arr.ragged_dim == 1
    assert arr.values.shape == (2, 3, 3)
    assert [row.shape for row in scree.unpack(arr)] == [(2, 2, 3), (2, 0, 3), (2, 1, 3)]
    assert all((row == n).all() for row, n in zip(arr, (2, 0, 1), strict=True))


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ([np.zeros(2), [1.0]], scree.ArgumentTypeError, r"arrays\[1\] must be an array, got list; convert it first"),
        ([np.zeros(2), None], scree.ArgumentTypeError, r"arrays\[1\] must be an array, got NoneType"),
        ("ab", scree.ArgumentTypeError, r"arrays\[0\] must be an array, got str"),
        ([np.float64(1)], scree.ShapeError, r"arrays\[0\] must be at least 1-D"),
        ([np.zeros(2), np.array(1.0)], scree.ShapeError, r"arrays\[1\] is 0-D, arrays\[0\] is 1-D"),
        ([np.zeros(2), np.zeros(2, np.float32)], scree.ShapeError, r"arrays\[1\] has dtype float32, .* cast them"),
        (
            [np.zeros((2, 3)), np.zeros((2, 4))],
            scree.ShapeError,
            r"arrays\[1\] has shape \(2, 4\), .* along axis 0 alone",
        ),
    ],
)
def test_an_array_that_does_not_fit_is_named_by_its_index(arrays, error, message):
    with pytest.raises(error, match=message):
        scree.pack(arrays)


def test_arrays_may_differ_along_the_ragged_axis_alone():
    with pytest.raises(scree.ShapeError, match=r"arrays\[2\] has shape \(3, 5\), .* along axis 1 alone"):
        scree.pack([np.zeros((2, 4)), np.zeros((2, 5)), np.zeros((3, 5))], ragged_dim=-1)


def test_arrays_of_two_libraries_do_not_pack():
    with (
        scree.registry.installed_for(LoopbackArray, LoopbackBackend()),
        pytest.raises(scree.ArgumentTypeError, match=r"arrays\[1\] is a LoopbackArray, arrays\[0\] a ndarray"),
    ):
        scree.pack([np.zeros(2), LoopbackArray(np.zeros(2))])


def test_packing_nothing_says_how_to_make_a_batch_of_no_rows():
    with pytest.raises(scree.ShapeError, match=r"empty list.*scree.from_lengths\(values\[:0\], \[\]\)"):
        scree.pack([])


def test_packing_batches_points_to_concat():
    arr = scree.from_lengths(np.zeros(3), [1, 2])
    with pytest.raises(scree.ArgumentTypeError, match=r"scree.concat"):
        scree.pack([arr, arr])


def test_unpacked_rows_are_views():
    values = np.arange(6.0)
    rows = scree.unpack(scree.from_lengths(values, [2, 0, 4]))
    assert [row.tolist() for row in rows] == [[0, 1], [], [2, 3, 4, 5]]
    rows[2][0] = -1
    assert values[2] == -1


def test_unpacking_a_batch_of_no_rows_gives_an_empty_list():
    assert scree.unpack(scree.from_lengths(np.zeros((0, 3)), [])) == []


@pytest.mark.parametrize("arr", [np.zeros(3), [np.zeros(3)], None])
def test_only_arrays_unpack(arr):
    with pytest.raises(scree.ArgumentTypeError, match=r"arr must be a scree.Array, got"):
        scree.unpack(arr)


def test_ten_thousand_rows_pack_to_one_call_of_numpy(monkeypatch):
    calls = []
    concatenate = np.concatenate
    monkeypatch.setattr(np, "concatenate", lambda *a, **k: calls.append(len(a[0])) or concatenate(*a, **k))
    rows = [np.zeros((i % 7, 2), np.float32) for i in range(10_000)]
    assert len(scree.pack(rows)) == 10_000
    assert calls == [10_000]
