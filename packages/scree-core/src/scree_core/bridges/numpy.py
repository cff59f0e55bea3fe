"""An Array of any library as one of NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.arguments import check_array
from scree_core.array import Array
from scree_core.bridges.memory import check_copy, refuse_to_share
from scree_core.dlpack import on_host
from scree_core.layout import Layout


def to_numpy(arr: Array[Any], *, copy: bool | None = None) -> Array[np.ndarray]:
    """Return the same rows with NumPy values and offsets.

    Parameters
    ----------
    arr : Array
        Of any library, on any device.
    copy : bool, optional
        True copies the values. None, the default, shares memory where both lie on the CPU. False shares it, or
        raises.

    Returns
    -------
    Array
        The same object where the values are NumPy's already and no copy was asked for. Dtypes are kept, those of the
        offsets too (``ml_dtypes.bfloat16`` for bfloat16), and so are ``ragged_dim``, length hints and a tail.

    Raises
    ------
    ArgumentTypeError
        ``arr`` isn't a ``scree.Array``, or ``copy`` none of the three.
    ShapeError
        The offsets, which only the device knew until now, break an invariant of ``scree.Array``.
    UnsupportedError
        ``copy`` is False, and the values are on a device; bfloat16 without ml_dtypes; or the values are traced.

    Notes
    -----
    Syncs a device. Shared memory of JAX and MLX is read-only, since their arrays are immutable; a tensor's may be
    written. Gradients stop here.

    Examples
    --------
    >>> import numpy as np, scree
    >>> arr = scree.from_lengths(np.arange(3), [1, 2])
    >>> scree.bridges.to_numpy(arr) is arr
    True
    >>> scree.bridges.to_numpy(arr, copy=True).values is arr.values
    False
    """
    check_array(arr, "arr")
    check_copy(copy)
    if isinstance(arr.values, np.ndarray):
        return arr if not copy else Array.trusted(arr.values.copy(), arr.layout, arr.ragged_dim)
    backend, layout = arr.backend, arr.layout
    if copy is False and not on_host(arr.values):
        raise refuse_to_share(backend.name, "numpy", f"they are on {backend.device(arr.values)}")
    values = backend.to_numpy(arr.values)
    hints = {"max_length": layout.max_length, "min_length": layout.min_length, "tail": layout.tail}
    offsets = backend.host_offsets(layout)
    found = Array(np.array(values) if copy else values, offsets, arr.ragged_dim, **hints)
    if not layout.tail:
        return found
    # What `bucket` left unsaid stays unsaid: measured lengths would have functions compiled anew for each batch.
    kept = Layout.trusted(found.offsets, total=arr.total_length, host=found.offsets, **hints)
    return Array.trusted(found.values, kept, found.ragged_dim)
