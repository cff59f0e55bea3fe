"""The graphs of jraph, a batch of which counts the nodes of each in ``n_node``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.arguments import check_array
from scree_core.array import Array
from scree_core.bridges.rows_first import rows_first
from scree_core.construct import from_lengths
from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.layout import INT32_MAX
from scree_core.protocols import ArrayT
from scree_core.registry import backend_of


def to_jraph(arr: Array[ArrayT]) -> dict[str, ArrayT]:
    """Return an Array as the nodes of a jraph batch.

    Parameters
    ----------
    arr : Array
        A row for each graph, an element for each node.

    Returns
    -------
    dict
        ``nodes``, the values with their ragged axis first, and ``n_node``, the row lengths ``(batch,)``; so
        ``graph._replace(**to_jraph(arr))`` is a graph with these nodes.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.

    Notes
    -----
    ``nodes`` is a view, as far as the library has views, and gradients flow back; ``n_node`` is new, in the dtype of
    the offsets. No sync, unless there is a tail: it is cut off, which reads the offsets on the host. For shapes that
    stay, pad the whole graph with ``jraph.pad_with_graphs``.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.bridges.to_jraph(scree.from_lengths(np.ones((3, 4)), [2, 1]))["n_node"].tolist()
    [2, 1]
    """
    check_array(arr, "arr")
    rows = rows_first(arr)
    return {"nodes": rows.values, "n_node": rows.lengths}


def from_jraph(graph: Any, nodes: ArrayT | None = None) -> Array[ArrayT]:
    """Wrap the nodes of a jraph batch, a row for each graph.

    Parameters
    ----------
    graph : jraph.GraphsTuple
        Or anything with ``n_node``, and ``nodes`` unless they are given.
    nodes : array of shape (total, *features), optional
        One array of a tree of node features, or what was computed for these nodes; by default ``graph.nodes``.

    Returns
    -------
    Array
        On the nodes as they are, with offsets of their library: int32, or int64 past 2**31 - 1 nodes.

    Raises
    ------
    ArgumentTypeError
        The graph has no ``n_node``; or there are no nodes, or a tree of them: pass one of its arrays as ``nodes``.
    ShapeError
        ``n_node`` isn't 1-D integers or, where the host can see it, has a negative number or doesn't add up to the
        number of nodes.

    Notes
    -----
    Copies no node, and gradients flow back to them. No sync where ``nodes`` and ``n_node`` are of one library, so it
    works under ``jax.jit``; ``n_node`` on a device is then taken unread, and ``validate`` checks it.

    A batch from ``jraph.pad_with_graphs`` ends with graphs that are padding: one with all surplus nodes, then some
    without any. These are rows like all others: take them off first with ``jraph.unpad_with_graphs``, or drop their
    results by ``jraph.get_graph_padding_mask``. Edges are ``scree.from_lengths(graph.edges, graph.n_edge)``.

    Examples
    --------
    >>> import numpy as np, scree
    >>> from types import SimpleNamespace
    >>> graph = SimpleNamespace(nodes=np.ones((3, 4)), n_node=np.array([2, 0, 1]))
    >>> scree.bridges.from_jraph(graph).offsets
    array([0, 2, 2, 3], dtype=int32)
    """
    n_node = getattr(graph, "n_node", None)
    if n_node is None:
        raise ArgumentTypeError(f"graph must have n_node, as jraph.GraphsTuple does, got {type(graph).__name__}")
    found: Any = getattr(graph, "nodes", None) if nodes is None else nodes
    if not hasattr(found, "dtype"):
        raise ArgumentTypeError(
            f"nodes must be an array, got {type(found).__name__}; of a tree pass one array, "
            'say from_jraph(graph, graph.nodes["x"])'
        )
    backend = backend_of(found)
    if not backend.owns(n_node) or backend.host_view(n_node) is not None:
        return from_lengths(found, n_node)
    return Array(found, _cumulated(backend, n_node, found.shape))


def _cumulated(backend: Any, n_node: Any, shape: Any) -> Any:
    """Return the offsets of graphs where ``n_node`` is, unread."""
    if len(n_node.shape) != 1 or "int" not in backend.dtype_name(n_node):
        raise ShapeError(
            f"n_node must be 1-D integers, got {backend.dtype_name(n_node)} of shape {tuple(n_node.shape)}"
        )
    dtype = "int64" if shape and shape[0] > INT32_MAX else "int32"
    zero = backend.from_numpy(np.zeros(1, dtype), like=n_node)
    ends = backend.xp.cumulative_sum(backend.astype(n_node, dtype), axis=0)
    return backend.xp.concat([zero, backend.astype(ends, dtype)], axis=0)
