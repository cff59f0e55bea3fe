"""MLX arrays from NumPy arrays and back, keeping dtype and values."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from scree_core.errors import ShapeError, UnsupportedError

NAMES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64"),
)


def dtype_named(name: str) -> mx.Dtype:
    """Return MLX's dtype of a name, such as ``"bool"``."""
    return mx.bool_ if name == "bool" else getattr(mx, name)


def from_numpy(a: np.ndarray) -> mx.array:
    """Return an MLX array of the same values and dtype; always a copy.

    Parameters
    ----------
    a : numpy.ndarray
        Any strides and byte order; ``ml_dtypes.bfloat16`` too.

    Returns
    -------
    mlx.core.array
        float64 stays float64, which MLX by itself would narrow; it computes with it on the CPU alone.

    Raises
    ------
    ShapeError
        MLX has no such dtype.
    """
    name = a.dtype.name
    if name not in NAMES:
        wide = ", which would lose half its bits" if name == "complex128" else ""
        raise ShapeError(f"MLX has no dtype {name}{wide}; cast it first, to one of {', '.join(NAMES)}")
    if a.size == 0:
        return mx.zeros(a.shape, dtype=dtype_named(name))  # NumPy's strides of nothing make mx.sum loop for ever
    if not a.dtype.isnative or any(stride < 0 for stride in a.strides):
        a = a.astype(a.dtype.newbyteorder("="), order="C")  # MLX takes neither
    return mx.array(a, dtype=dtype_named(name))


def has_values(*arrays: mx.array) -> bool:
    """Evaluate arrays, and tell whether that is possible: under ``mx.compile`` and ``mx.vmap`` it isn't.

    Raises
    ------
    UnsupportedError
        An array never had values: bare ``mx.compile`` handed it out inside a ``scree.Array``.
    """
    try:
        mx.eval(arrays)
    except ValueError as error:
        if "function transformations" not in str(error):
            raise
        return False
    except RuntimeError as error:
        if "without a primitive" not in str(error):
            raise
        raise UnsupportedError(
            "this array was never computed: a function compiled by mx.compile returned it inside a scree.Array, which "
            "MLX doesn't know; compile by scree_mlx.compile"
        ) from error
    return True


def to_numpy(x: mx.array) -> np.ndarray:
    """Return a NumPy array of the same values and dtype, after computing ``x``.

    Returns
    -------
    numpy.ndarray
        On the memory of ``x``, and read-only: MLX arrays are immutable, and writing would change them.

    Raises
    ------
    UnsupportedError
        Under ``mx.compile`` or ``mx.vmap``, where arrays have no values; or bfloat16 without ml_dtypes.
    """
    if not has_values(x):
        raise UnsupportedError(
            "this needs the values of an array on the host, which it doesn't have under mx.compile or mx.vmap; "
            "make the Array outside and close over it, or pass max_length to scree.to_padded, capacity to "
            "scree.from_padded"
        )
    halves = x.dtype == mx.bfloat16
    host = np.asarray(x.view(mx.uint16)).view(_bfloat16()) if halves else np.asarray(x)
    host.flags.writeable = False
    return host


def _bfloat16() -> np.dtype:
    try:
        import ml_dtypes
    except ImportError as error:
        raise UnsupportedError(
            "NumPy has no bfloat16 of its own: pip install ml-dtypes, or cast first, x.astype(mx.float32)"
        ) from error
    return np.dtype(ml_dtypes.bfloat16)
