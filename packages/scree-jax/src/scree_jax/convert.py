"""JAX arrays from NumPy arrays: never narrowed without a word, and concrete even under a trace."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from scree_core.errors import ShapeError
from scree_jax import aligned

NARROW = {"int64": "int32", "uint64": "uint32"}


def from_numpy(a: np.ndarray, like: Any = None) -> jax.Array:
    """Return a JAX array of the same values and dtype, where ``like`` is.

    Parameters
    ----------
    a : numpy.ndarray
        Any strides and byte order. It is copied, and may be written to afterwards.
    like : jax.Array, optional
        Its device; an array sharded over several devices gives a copy on each. Tracers have none.

    Returns
    -------
    jax.Array
        Concrete, under a trace too. Without x64, int64 and uint64 become 32 bits wide if their values fit.

    Raises
    ------
    ShapeError
        Without x64: float64 or complex128, or integers that don't fit 32 bits.
    """
    own = aligned.empty(a.shape, _checked_dtype(a))  # a private copy: JAX may go on using its memory
    np.copyto(own, a, casting="unsafe")  # what wouldn't fit was refused
    with jax.ensure_compile_time_eval():
        return jax.device_put(own, _placement(like))


def _checked_dtype(a: np.ndarray) -> np.dtype:
    native = a.dtype.newbyteorder("=")
    x64 = jax.config.jax_enable_x64  # pyrefly: ignore[missing-attribute]
    if x64 or a.dtype.name not in ("float64", "complex128", *NARROW):
        return native
    mend = 'jax.config.update("jax_enable_x64", True) before any array is made'
    if a.dtype.name not in NARROW:
        single = {"float64": "float32", "complex128": "complex64"}[a.dtype.name]
        raise ShapeError(f'JAX would round {a.dtype.name} to {single}: cast it, a.astype("{single}"), or set {mend}')
    narrow = np.dtype(NARROW[a.dtype.name])
    limits = np.iinfo(narrow)
    if a.size and not (limits.min <= a.min() and a.max() <= limits.max):
        raise ShapeError(f"JAX without x64 has no {a.dtype.name}, and {a.max()} doesn't fit {narrow.name}; set {mend}")
    return narrow


def _placement(like: Any) -> Any:
    """Return the device or sharding for a whole array beside ``like``; None for JAX's default."""
    if like is None or isinstance(like, jax.core.Tracer) or not getattr(like, "committed", True):
        return None
    sharding = like.sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    devices = sharding.device_set
    return next(iter(devices)) if len(devices) == 1 else None
