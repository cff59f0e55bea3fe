"""jraph's batches, without jraph."""

from types import SimpleNamespace

import numpy as np
import pytest

from scree_core import bucket, from_lengths
from scree_core.bridges import from_jraph, to_jraph
from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.registry import installed_for
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend


def graph(nodes, n_node):
    return SimpleNamespace(nodes=nodes, n_node=np.asarray(n_node))


@pytest.fixture
def distant():
    """Return a function that puts an array on a device that must not be read."""

    class Distant(LoopbackBackend):
        def to_numpy(self, x):
            raise AssertionError("a sync")

    with installed_for(LoopbackArray, Distant()):
        yield lambda a: LoopbackArray(np.asarray(a))


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [2, 0, 1]])
@pytest.mark.parametrize("features", [(), (4,), (2, 3)])
def test_nodes_go_over_and_back(lengths, features):
    nodes = np.ones((sum(lengths), *features), np.float32)
    parts = to_jraph(from_lengths(nodes, lengths))
    assert parts["nodes"] is nodes
    assert parts["n_node"].tolist() == lengths
    assert parts["n_node"].dtype == np.int32
    back = from_jraph(SimpleNamespace(**parts))
    assert back.values is nodes
    assert back.lengths.tolist() == lengths


def test_one_array_of_a_tree_is_taken_by_hand():
    nodes = {"x": np.ones((3, 2))}
    with pytest.raises(ArgumentTypeError, match=r"nodes must be an array, got dict; of a tree .*graph\.nodes\["):
        from_jraph(graph(nodes, [2, 1]))
    assert from_jraph(graph(nodes, [2, 1]), nodes["x"]).values is nodes["x"]


def test_a_ragged_axis_that_is_not_the_first_becomes_it():
    values = np.arange(6).reshape(2, 3)
    nodes = to_jraph(from_lengths(values, [2, 1], ragged_dim=1))["nodes"]
    assert np.array_equal(nodes, values.T)
    assert np.shares_memory(nodes, values)


def test_a_tail_is_cut_off():
    parts = to_jraph(bucket(from_lengths(np.ones(3), [2, 1])))
    assert parts["nodes"].shape == (3,)
    assert parts["n_node"].tolist() == [2, 1]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_counts_on_a_device_are_taken_unread(distant, dtype):
    there = SimpleNamespace(nodes=distant(np.ones((300, 2))), n_node=distant(np.array([200, 0, 100], dtype)))
    arr = from_jraph(there)
    assert arr.offsets.host.tolist() == [0, 200, 200, 300]
    assert arr.offsets.dtype == np.int32
    assert to_jraph(arr)["n_node"].host.tolist() == [200, 0, 100]


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="lengths add up to 2, but"):
        from_jraph(graph(np.ones(3), [2]))
    with pytest.raises(ShapeError, match="must not be negative"):
        from_jraph(graph(np.ones(3), [4, -1]))
    with pytest.raises(ShapeError, match="must be integers"):
        from_jraph(graph(np.ones(3), [3.0]))


@pytest.mark.parametrize("n_node", [np.ones(3), np.ones((1, 1), int)])
def test_counts_of_another_kind_are_refused_on_a_device_too(distant, n_node):
    with pytest.raises(ShapeError, match="n_node must be 1-D integers"):
        from_jraph(SimpleNamespace(nodes=distant(np.ones(3)), n_node=distant(n_node)))


def test_what_is_no_graph_is_refused():
    with pytest.raises(ArgumentTypeError, match="graph must have n_node"):
        from_jraph(np.ones(3))
    with pytest.raises(ArgumentTypeError, match="nodes must be an array, got NoneType"):
        from_jraph(graph(None, [1]))
    with pytest.raises(ArgumentTypeError, match=r"arr must be a scree\.Array, got ndarray"):
        to_jraph(np.ones(3))
