"""An Array of any library as one of NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.arguments import check_array
from scree_core.array import Array
from scree_core.layout import Layout


def to_numpy(arr: Array[Any]) -> Array[np.ndarray]:
    """Return the same rows with NumPy values and offsets.

    Parameters
    ----------
    arr : Array
        Of any library, on any device.

    Returns
    -------
    Array
        The same object where the values are NumPy's already. Dtypes are kept, those of the offsets too
        (``ml_dtypes.bfloat16`` for bfloat16), and so are ``ragged_dim``, length hints and a tail.

    Raises
    ------
    ShapeError
        The offsets, which only the device knew until now, break an invariant of ``scree.Array``.

    Notes
    -----
    Syncs a device. May share memory with ``arr`` where both lie in host memory; gradients stop here.

    Examples
    --------
    >>> import numpy as np, scree
    >>> arr = scree.from_lengths(np.arange(3), [1, 2])
    >>> scree.bridges.to_numpy(arr) is arr
    True
    """
    check_array(arr, "arr")
    if isinstance(arr.values, np.ndarray):
        return arr
    backend, layout = arr.backend, arr.layout
    hints = {"max_length": layout.max_length, "min_length": layout.min_length, "tail": layout.tail}
    found = Array(backend.to_numpy(arr.values), backend.host_offsets(layout), arr.ragged_dim, **hints)
    if not layout.tail:
        return found
    # What `bucket` left unsaid stays unsaid: measured lengths would have functions compiled anew for each batch.
    kept = Layout.trusted(found.offsets, total=arr.total_length, host=found.offsets, **hints)
    return Array.trusted(found.values, kept, found.ragged_dim)
