"""The batches of PyTorch Geometric: nodes of all graphs end to end, with ``ptr`` and ``batch`` vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.arguments import check_array
from scree_core.array import Array
from scree_core.bridges.as_int64 import as_int64
from scree_core.bridges.rows_first import rows_first
from scree_core.construct.offsets import offsets_from_segment_ids
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.layout import checked_bound
from scree_core.protocols import ArrayT
from scree_core.registry import backend_of


def to_pyg(arr: Array[ArrayT]) -> dict[str, ArrayT]:
    """Return an Array as what PyTorch Geometric keeps of the nodes of a batch.

    Parameters
    ----------
    arr : Array
        A row for each graph, an element for each node.

    Returns
    -------
    dict
        ``x``, the values with their ragged axis first; ``ptr``, the offsets ``(batch_size + 1,)``; and ``batch``,
        the graph of each node ``(total,)``. Vectors are int64, int32 in JAX without x64. So
        ``torch_geometric.data.Batch(**to_pyg(arr), edge_index=edge_index)`` is a batch.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.

    Notes
    -----
    ``x`` is a view, so gradients flow back, and ``ptr`` is ``offsets`` where those are int64; ``batch`` is new. No
    sync, unless there is a tail: it is cut off, which reads the offsets on the host.

    Examples
    --------
    >>> import numpy as np, scree
    >>> parts = scree.bridges.to_pyg(scree.from_lengths(np.ones((3, 4)), [2, 1]))
    >>> parts["ptr"].tolist(), parts["batch"].tolist()
    ([0, 2, 3], [0, 0, 1])
    """
    check_array(arr, "arr")
    rows = rows_first(arr)
    ptr, batch = (as_int64(rows.backend, x) for x in (rows.offsets, rows.segment_ids))
    return {"x": rows.values, "ptr": ptr, "batch": batch}


def from_pyg(
    values: Any, *, ptr: Any = None, batch: Any = None, batch_size: int | None = None, max_length: int | None = None
) -> Array[Any]:
    """Wrap nodes of PyTorch Geometric, a row for each graph.

    Parameters
    ----------
    values : array of shape (total, *features), or a batch
        Node features or embeddings; or what has them as ``x``, and ``ptr`` or ``batch`` beside it, such as a
        ``torch_geometric.data.Batch``.
    ptr : array of shape (batch_size + 1,), int32 or int64, optional
        Where the nodes of each graph begin.
    batch : integer array of shape (total,), optional
        Graph of each node, never decreasing; numbers left out are graphs without nodes.
    batch_size : int, optional
        Number of graphs, where ``batch`` alone can't show that the last have no nodes.
    max_length : int, optional
        Bound of the number of nodes of a graph, as for ``scree.Array``; with ``ptr`` alone.

    Returns
    -------
    Array
        On the values as they are, and with ``ptr`` on this very vector; else on int32 offsets.

    Raises
    ------
    ArgumentError
        Neither vector is there, or one is given beside a batch that has its own.
    ShapeError
        ``batch`` decreases (the message says how to sort), reaches ``batch_size``, or isn't ``(total,)`` integers;
        ``ptr`` breaks an invariant of ``scree.Array``; or the two disagree.
    ArgumentTypeError
        Something is no array, or the batch has no ``x``.

    Notes
    -----
    The values aren't copied, and gradients flow back to them. With ``ptr`` there is no sync; on a device it is taken
    unread, and ``batch`` beside it too. ``batch`` alone is read on the host: one sync. Of several node types or
    ``follow_batch``, pass the pieces: ``from_pyg(data.x_s, ptr=data.x_s_ptr)``.

    Examples
    --------
    >>> import numpy as np, scree
    >>> scree.bridges.from_pyg(np.ones((3, 4)), batch=np.array([0, 0, 2])).offsets.tolist()
    [0, 2, 2, 3]
    """
    if not hasattr(values, "dtype"):
        if ptr is not None or batch is not None:
            raise ArgumentError(
                f"ptr and batch go with an array, got them beside a {type(values).__name__}; pass one of its arrays, "
                "say its x, or leave them out"
            )
        values, ptr, batch = _taken(values)
    elif ptr is None and batch is None:
        raise ArgumentError("nothing tells which graph a node is of; pass ptr=data.ptr or batch=data.batch")
    size = checked_bound("batch_size", batch_size)
    if ptr is None:
        return _by_batch(values, batch, size, max_length)
    arr = Array(values, ptr, max_length=max_length)
    if size is not None and size != arr.batch_size:
        raise ShapeError(f"ptr has the offsets of {arr.batch_size} graphs, but batch_size is {size}; leave it out")
    if batch is not None and arr.layout.host is not None and backend_of(batch).host_view(batch) is not None:
        _check_agree(arr, batch)
    return arr


def _taken(data: Any) -> tuple[Any, Any, Any]:
    x, ptr, batch = (getattr(data, name, None) for name in ("x", "ptr", "batch"))
    kind = type(data).__name__
    if x is None:
        raise ArgumentTypeError(
            f"values must be an array, or a batch with node features x, got {kind} without; pass an array and its "
            "vector, say from_pyg(h, ptr=data.ptr)"
        )
    if ptr is None and batch is None:
        raise ArgumentError(
            f"the {kind} has neither ptr nor batch, so it is one graph; make a batch with "
            "torch_geometric.data.Batch.from_data_list, or wrap one graph with scree.pack([data.x])"
        )
    return x, ptr, batch


def _by_batch(values: Any, batch: Any, batch_size: int | None, max_length: int | None) -> Array[Any]:
    if max_length is not None:
        raise ArgumentError("max_length goes with ptr; batch is read on the host, which tells the exact one")
    offsets = _host_offsets(batch, values.shape, batch_size)
    return Array.trusted(values, backend_of(values).layout_from_host(offsets, like=values))


def _host_offsets(batch: Any, shape: Any, batch_size: int | None) -> np.ndarray:
    if not hasattr(batch, "dtype"):
        raise ArgumentTypeError(f"batch must be an array, got {type(batch).__name__}")
    if len(shape) < 1 or tuple(batch.shape) != (shape[0],):
        raise ShapeError(
            f"batch must have an element for each of the values of shape {tuple(shape)}, got {tuple(batch.shape)}"
        )
    return offsets_from_segment_ids(batch, batch_size, "batch")


def _check_agree(arr: Array[Any], batch: Any) -> None:
    offsets = _host_offsets(batch, arr.values.shape, None)
    short = arr.batch_size + 1 - len(offsets)  # graphs without nodes at the end, which batch can't show
    if short < 0 or not np.array_equal(np.append(offsets, np.repeat(offsets[-1:], short)), arr.layout.host):  # pyrefly: ignore[bad-argument-type]
        raise ShapeError("ptr and batch disagree on which graph a node is of; pass the one that is right, and x, alone")
