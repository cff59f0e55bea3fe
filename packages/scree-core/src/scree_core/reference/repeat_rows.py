"""Give each element its row's entry of a dense array."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace


def repeat_rows(xp: Namespace, dense: Any, segment_ids: Any) -> Any:
    """Return ``dense[segment_ids]``.

    Parameters
    ----------
    dense : array of shape (batch, *features)
        One entry for each row.
    segment_ids : array of int of shape (total,)
        Row number of each element.

    Returns
    -------
    array of shape (total, *features), dtype of dense

    Notes
    -----
    ``out[i] = dense[segment_ids[i]]``. O(total), no sync.

    Examples
    --------
    >>> import numpy as np
    >>> repeat_rows(np, np.array([1.0, 2.0, 3.0]), np.array([0, 0, 2]))
    array([1., 1., 3.])
    """
    return xp.take(dense, segment_ids, axis=0)


def repeat_rows_vjp(xp: Namespace, d_out: Any, dense: Any, segment_ids: Any) -> tuple[Any]:
    """Return the gradient of ``repeat_rows`` with respect to ``dense``: each row's sum.

    Parameters
    ----------
    d_out : array of shape (total, *features)
        Cotangent of the output.
    dense, segment_ids
        As given to ``repeat_rows``.

    Returns
    -------
    d_dense : array of shape (batch, *features)

    Notes
    -----
    ``d_dense[r] = sum(d_out[i] for i with segment_ids[i] == r)``. O(batch * total), no sync.
    """
    ids = xp.reshape(segment_ids, (segment_ids.shape[0],) + (1,) * (d_out.ndim - 1))
    zero = xp.zeros_like(d_out)
    sums = [xp.sum(xp.where(ids == r, d_out, zero), axis=0, keepdims=True) for r in range(dense.shape[0])]
    return (xp.concat([xp.zeros_like(dense[:0, ...]), *sums], axis=0),)
