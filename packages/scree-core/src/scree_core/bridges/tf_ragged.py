"""TensorFlow's ragged tensors, of which those with one ragged axis are values and row splits."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.array import Array
from scree_core.bridges.host_rows import host_rows
from scree_core.bridges.library import library
from scree_core.errors import ArgumentTypeError, ShapeError


def to_tf_ragged(arr: Array[Any]) -> Any:
    """Return the rows as a ragged tensor of TensorFlow.

    Parameters
    ----------
    arr : Array
        Of bool or numbers, bfloat16 too; those of other libraries go through ``to_numpy``.

    Returns
    -------
    tensorflow.RaggedTensor
        Of shape ``(batch, None, *features)``, with row splits of the offsets' dtype.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``.
    ShapeError
        TensorFlow has no such dtype, or values aren't numbers, or ``ragged_dim`` isn't 0.
    BackendNotInstalledError
        TensorFlow isn't installed.

    Notes
    -----
    One copy of values and offsets to TensorFlow's default device, since a tensor never changes and may want another
    alignment. A tail is left out. Gradients stop, and a device of another library syncs, as in ``to_numpy``.
    """
    values, offsets = host_rows(arr)
    if values.dtype.kind in "SUOMm":
        raise ShapeError(f"values of dtype {values.dtype} aren't numbers, and a ragged tensor of rows holds numbers")
    tf = library("tensorflow", "to_tf_ragged", "tensorflow")
    try:
        elements = tf.convert_to_tensor(values)
    except (ValueError, TypeError) as error:
        raise ShapeError(f"TensorFlow can't hold values of dtype {values.dtype}: {error}") from None
    return tf.RaggedTensor.from_row_splits(elements, tf.convert_to_tensor(offsets), validate=False)  # checked already


def from_tf_ragged(ragged: Any) -> Array[np.ndarray]:
    """Return a ragged tensor with one ragged axis as an Array of NumPy arrays.

    Parameters
    ----------
    ragged : tensorflow.RaggedTensor
        Of ``ragged_rank`` 1, with any number of uniform axes within; of bool or numbers. Eager: inside a
        ``tf.function`` it has no values yet.

    Returns
    -------
    Array
        With offsets of the row splits' dtype, and ``ml_dtypes.bfloat16`` for bfloat16.

    Raises
    ------
    ArgumentTypeError
        It is no ``tf.RaggedTensor``, or is symbolic.
    ShapeError
        It has several ragged axes, or holds strings; or row splits are wrong, where TensorFlow didn't validate them.
    BackendNotInstalledError
        TensorFlow isn't installed.

    Notes
    -----
    Shares TensorFlow's memory where that is the host's, as read-only arrays, since tensors never change; a device
    syncs and is copied from. Gradients stop: no tape of TensorFlow sees what NumPy computes.
    """
    tf = library("tensorflow", "from_tf_ragged", "tensorflow")
    if not isinstance(ragged, tf.RaggedTensor):
        mend = "; wrap it with tf.RaggedTensor.from_tensor" if isinstance(ragged, tf.Tensor) else ""
        raise ArgumentTypeError(f"ragged must be a tf.RaggedTensor, got {type(ragged).__name__}{mend}")
    if ragged.ragged_rank != 1:
        raise ShapeError(
            f"ragged has ragged_rank {ragged.ragged_rank} and shape {ragged.shape}, but an Array has one ragged axis; "
            "take ragged.values, whose rows are the inner ones, or join two axes with ragged.merge_dims(1, 2)"
        )
    if tf.is_symbolic_tensor(ragged.values):
        raise ArgumentTypeError("ragged is symbolic: inside a tf.function it has no values yet; convert outside")
    if ragged.dtype in (tf.string, tf.resource, tf.variant):
        raise ShapeError(f"ragged holds {ragged.dtype.name}, but an Array holds numbers or bool; encode them first")
    return Array(_view(ragged.values), _view(ragged.row_splits))


def _view(tensor: Any) -> np.ndarray:
    # Tensor.numpy() would copy, because what it gives may be written to.
    view = np.asarray(tensor).view()
    view.flags.writeable = False
    return view
