"""Batches of jraph go over and back, under jit and gradients too."""

import pytest

jraph = pytest.importorskip("jraph", reason="jraph isn't installed")
jax = pytest.importorskip("jax", reason="JAX isn't installed")
pytest.importorskip("scree_jax", reason="scree-jax isn't installed")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import scree  # noqa: E402
import scree.bridges  # noqa: E402

LENGTHS = [[2, 0, 1], [3], [0, 2]]


def graph_of(nodes, array=jnp.asarray):
    none = array(np.zeros(0, np.int32))
    return jraph.GraphsTuple(
        nodes=nodes,
        edges=None,
        receivers=none,
        senders=none,
        globals=None,
        n_node=array(np.array([len(nodes)], np.int32)),
        n_edge=array(np.zeros(1, np.int32)),
    )


def batch_of(lengths, features=(3,), dtype=jnp.float32):
    rng = np.random.default_rng(0)
    graphs = [graph_of(jnp.asarray(rng.standard_normal((n, *features)), dtype)) for n in lengths]
    return jraph.batch(graphs)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("features", [(3,), (2, 3)])
def test_a_batch_goes_over_and_back(lengths, features):
    graph = batch_of(lengths, features)
    arr = scree.bridges.from_jraph(graph).validate()
    assert arr.values is graph.nodes
    assert isinstance(arr.offsets, jax.Array)
    for row, alone in zip(scree.unpack(arr), jraph.unbatch(graph), strict=True):
        assert np.array_equal(row, alone.nodes)
    back = graph._replace(**scree.bridges.to_jraph(arr))
    assert back.nodes is graph.nodes
    assert back.n_node.tolist() == lengths
    assert back.n_node.dtype == graph.n_node.dtype


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_padding_is_rows_at_the_end_which_the_mask_drops(array):
    padded = jax.tree.map(array, jraph.pad_with_graphs(batch_of([2, 1]), n_node=8, n_edge=0, n_graph=5))
    arr = scree.bridges.from_jraph(padded)
    assert arr.lengths.tolist() == [2, 1, 5, 0, 0]
    assert jraph.get_graph_padding_mask(padded).tolist() == [True, True, False, False, False]
    assert scree.bridges.from_jraph(jraph.unpad_with_graphs(padded)).lengths.tolist() == [2, 1]


def test_counts_in_numpy_go_beside_nodes_of_jax():
    graph = batch_of([2, 1])._replace(n_node=np.array([2, 1]))
    arr = scree.bridges.from_jraph(graph)
    assert arr.lengths.tolist() == [2, 1]
    assert isinstance(arr.offsets, jax.Array)


def test_it_works_under_jit_and_gradients():
    graph = batch_of([2, 0, 1])

    @jax.jit
    def loss(nodes):
        arr = scree.bridges.from_jraph(graph._replace(nodes=nodes))
        out = graph._replace(**scree.bridges.to_jraph(arr * 3))
        return scree.varlen_sum(scree.bridges.from_jraph(out)).sum()

    assert (jax.grad(loss)(graph.nodes) == 3).all()

    @jax.jit
    def sums(graph):
        return scree.varlen_sum(scree.bridges.from_jraph(graph))

    np.testing.assert_allclose(sums(graph)[0], graph.nodes[:2].sum(0), rtol=1e-6)


def test_bfloat16_goes_over():
    assert scree.bridges.from_jraph(batch_of([2, 1], dtype=jnp.bfloat16)).dtype == jnp.bfloat16
