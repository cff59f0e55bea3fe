"""PyTorch Geometric's vectors, without PyTorch Geometric."""

from types import SimpleNamespace

import numpy as np
import pytest

from scree_core import Array, bucket, from_lengths
from scree_core.bridges import from_pyg, to_pyg
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.registry import installed_for
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend

PTR, BATCH = np.array([0, 2, 2, 3]), np.array([0, 0, 2])


@pytest.fixture
def x():
    return np.arange(6.0).reshape(3, 2)


def test_the_parts_are_those_of_a_batch(x):
    parts = to_pyg(from_lengths(x, [2, 0, 1]))
    assert list(parts) == ["x", "ptr", "batch"]
    assert parts["ptr"].tolist() == PTR.tolist()
    assert parts["batch"].tolist() == BATCH.tolist()
    assert parts["ptr"].dtype == parts["batch"].dtype == np.int64


def test_nodes_and_int64_offsets_are_shared(x):
    parts = to_pyg(Array(x, PTR))
    assert parts["x"] is x
    assert parts["ptr"] is PTR


def test_a_ragged_axis_that_is_not_the_first_becomes_it(x):
    parts = to_pyg(from_lengths(x.T, [2, 1], ragged_dim=1))
    assert np.array_equal(parts["x"], x)
    assert np.shares_memory(parts["x"], x)


def test_a_tail_is_cut_off(x):
    padded = bucket(from_lengths(x, [2, 0, 1, 0]))
    parts = to_pyg(padded)
    assert np.array_equal(parts["x"], x)
    assert parts["batch"].tolist() == [0, 0, 2]
    assert parts["ptr"].tolist() == [0, 2, 2, 3, 3]


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [2, 0]])
@pytest.mark.parametrize("features", [(), (4,), (2, 3)])
def test_empty_batches_and_graphs_round_trip(lengths, features):
    arr = from_lengths(np.ones((sum(lengths), *features)), lengths)
    back = from_pyg(SimpleNamespace(**to_pyg(arr)))
    assert back.lengths.tolist() == lengths
    assert back.feature_shape == features


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_an_object_with_x_and_ptr_keeps_both(x, dtype):
    ptr = PTR.astype(dtype)
    arr = from_pyg(SimpleNamespace(x=x, ptr=ptr, batch=BATCH))
    assert arr.values is x
    assert arr.offsets is ptr


def test_a_vector_alone_tells_the_graphs(x):
    assert from_pyg(x, ptr=PTR).lengths.tolist() == [2, 0, 1]
    assert from_pyg(x, batch=BATCH).lengths.tolist() == [2, 0, 1]
    assert from_pyg(SimpleNamespace(x=x, batch=BATCH)).values is x


def test_batch_size_adds_the_last_graphs_without_nodes(x):
    assert from_pyg(x, batch=BATCH, batch_size=5).lengths.tolist() == [2, 0, 1, 0, 0]
    assert from_pyg(x, ptr=PTR, batch_size=3).batch_size == 3
    with pytest.raises(ShapeError, match=r"batch\[-1\] is 2, out of range for batch_size=2"):
        from_pyg(x, batch=BATCH, batch_size=2)
    with pytest.raises(ShapeError, match="ptr has the offsets of 3 graphs, but batch_size is 4"):
        from_pyg(x, ptr=PTR, batch_size=4)


def test_the_last_graphs_without_nodes_are_no_disagreement(x):
    assert from_pyg(x, ptr=np.array([0, 2, 2, 3, 3, 3]), batch=BATCH).batch_size == 5
    assert from_pyg(x[:0], ptr=np.array([0, 0, 0]), batch=BATCH[:0]).batch_size == 2


@pytest.mark.parametrize("ptr", [[0, 2, 3], [0, 1, 2, 3], [0, 2, 3, 3]])
def test_vectors_that_disagree_are_refused(x, ptr):
    with pytest.raises(ShapeError, match="ptr and batch disagree"):
        from_pyg(x, ptr=np.array(ptr), batch=BATCH)


def test_an_unsorted_vector_is_refused_with_the_way_to_sort(x):
    with pytest.raises(ShapeError, match=r"batch\[1\] < batch\[0\] \(0 < 1\); sort both first: .*argsort\(batch"):
        from_pyg(x, batch=np.array([1, 0, 1]))


def test_vectors_of_another_kind_are_refused(x):
    with pytest.raises(ShapeError, match=r"batch must have an element for each of the values of shape \(3, 2\)"):
        from_pyg(x, batch=np.array([0, 1]))
    with pytest.raises(ShapeError, match="batch must be integers, got float64"):
        from_pyg(x, batch=np.zeros(3))
    with pytest.raises(ArgumentTypeError, match="batch must be an array, got list"):
        from_pyg(x, batch=[0, 0, 1])
    with pytest.raises(ShapeError, match=r"offsets\[-1\] \(2\) must equal"):
        from_pyg(x, ptr=np.array([0, 2]))


def test_a_device_is_not_read_where_ptr_is_given():
    class Distant(LoopbackBackend):
        def to_numpy(self, x):
            raise AssertionError("a sync")

    with installed_for(LoopbackArray, Distant()):
        parts = SimpleNamespace(x=LoopbackArray(np.ones((3, 2))), ptr=LoopbackArray(PTR), batch=LoopbackArray(BATCH))
        arr = from_pyg(parts, max_length=2)
        assert arr.offsets is parts.ptr
        assert arr.max_length == 2
        assert to_pyg(arr)["ptr"] is parts.ptr


def test_what_tells_nothing_is_refused(x):
    with pytest.raises(ArgumentError, match=r"nothing tells which graph a node is of; pass ptr=data\.ptr"):
        from_pyg(x)
    with pytest.raises(ArgumentError, match=r"neither ptr nor batch, so it is one graph"):
        from_pyg(SimpleNamespace(x=x, ptr=None))
    with pytest.raises(ArgumentTypeError, match="node features x, got SimpleNamespace without"):
        from_pyg(SimpleNamespace(ptr=PTR))
    with pytest.raises(ArgumentError, match="ptr and batch go with an array"):
        from_pyg(SimpleNamespace(x=x, ptr=PTR), batch=BATCH)
    with pytest.raises(ArgumentError, match="max_length goes with ptr"):
        from_pyg(x, batch=BATCH, max_length=2)
    with pytest.raises(ArgumentTypeError, match=r"arr must be a scree\.Array, got ndarray"):
        to_pyg(x)
