"""An Array of any library as an Array of JAX arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from scree_core import Array
from scree_core.arguments import check_array
from scree_core.bridges.memory import check_copy, detached, on_same_rows, refuse_to_share
from scree_core.dlpack import UNSHARED, on_device
from scree_core.errors import ShapeError, UnsupportedError
from scree_jax.convert import from_numpy

SINGLE = {
    "float64": "float32",
    "complex128": "complex64",
    "int64": "int32",
    "uint64": "uint32",
}
"""What JAX makes of wide dtypes where x64 is off."""


def to_jax(arr: Array[Any], *, copy: bool | None = None) -> Array[jax.Array]:
    """Return the Array with JAX arrays for values and offsets.

    Parameters
    ----------
    arr : Array
        Of any library.
    copy : bool, optional
        True and None, the default, copy what other libraries may write, since JAX arrays are immutable; None returns
        JAX's own as they are. False shares memory, or raises; then don't write to the other side, which neither
        library can prevent.

    Returns
    -------
    Array
        On the device of the values where JAX has it, else on JAX's default device. Dtypes, ``ragged_dim``, length hints
        and a tail stay; without x64, int64 offsets become int32 where their values fit.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``, or ``copy`` none of the three.
    ShapeError
        The values are 64 bits wide and x64 is off: JAX would narrow them without a word.
    UnsupportedError
        ``copy`` is False and JAX can't take the memory: it doesn't begin at a multiple of 64 bytes, has gaps, is
        read-only (which DLPack doesn't know), or is NumPy's bfloat16.

    Notes
    -----
    Offsets are always copied, ``4 * (batch + 1)`` bytes or twice that. Gradients stop here. Syncs a device.
    ``jax.numpy.from_dlpack`` isn't what copies: up to JAX 0.10 it shares memory with ``copy=True`` as well, and
    narrows 64 bits with ``copy=False``.

    Examples
    --------
    >>> import numpy as np, scree
    >>> from scree_jax.bridges import to_jax
    >>> to_jax(scree.from_lengths(np.zeros((3, 2), np.float32), [1, 2])).values.shape
    (3, 2)
    """
    check_array(arr, "arr")
    check_copy(copy)
    if isinstance(arr.values, jax.Array):
        return arr if not copy else Array.trusted(jnp.array(arr.values, copy=True), arr.layout, arr.ragged_dim)
    backend = arr.backend
    _check_width(backend.dtype_name(arr.values))
    values = _shared(arr) if copy is False else _copied(arr)
    host = backend.host_offsets(arr.layout)
    return on_same_rows(arr, values, from_numpy(host), host)


def _check_width(name: str) -> None:
    """Refuse values that JAX has no room for."""
    if name in SINGLE and not jax.config.jax_enable_x64:  # pyrefly: ignore[missing-attribute]
        raise ShapeError(
            f'JAX has no {name} without x64: cast the values first, arr.astype("{SINGLE[name]}"), or set '
            'jax.config.update("jax_enable_x64", True) before any array is made'
        )


def _copied(arr: Array[Any]) -> jax.Array:
    """Return the values as a JAX array of its own, on the device where they are if JAX has it."""
    if on_device(arr.values):
        try:
            return jnp.array(_shared(arr), copy=True)
        except UnsupportedError:
            pass  # by way of the host
    return from_numpy(arr.backend.to_numpy(arr.values))


def _shared(arr: Array[Any]) -> jax.Array:
    """Return the values as a JAX array on their memory."""
    arr.backend.synchronize(arr.values)
    try:
        return jnp.from_dlpack(detached(arr.values), copy=False)  # the gradient stops here, whatever is shared
    except UNSHARED as error:
        raise refuse_to_share(arr.backend.name, "jax", str(error).split("\n")[0]) from error
