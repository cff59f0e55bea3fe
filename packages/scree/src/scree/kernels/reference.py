"""The reference of each op, on the Array's own library: slow, readable, and what every backend answers to."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.arguments import check_array, restore
from scree_core.array import Array
from scree_core.backend import Backend
from scree_core.dispatch import choose
from scree_core.errors import ShapeError
from scree_core.explain import prepared
from scree_core.protocols import ArrayT

__all__ = ["varlen_attention", "varlen_layernorm", "varlen_rmsnorm", "varlen_softmax"]


def varlen_attention(
    q: Array[ArrayT], k: Array[ArrayT], v: Array[ArrayT], causal: bool = False, scale: float | None = None
) -> Array[ArrayT]:
    """Attend from each row's queries to that row's keys: self-attention, by the reference.

    Parameters
    ----------
    q : Array with values (total, heads, head_dim)
    k : Array with values (total, kv_heads, head_dim)
    v : Array with values (total, kv_heads, head_dim_v)
        All on the same offsets; for others, and for windows, caps and sinks, use
        ``scree.varlen_attention``.
    causal : bool, default False
        A query sees no key behind its own position.
    scale : float, optional
        Factor on the scores; by default ``1 / sqrt(head_dim)``.

    Returns
    -------
    Array with values (total, heads, head_dim_v)
        On the layout of q, in its dtype.

    Raises
    ------
    ShapeError
        The offsets differ, or as for ``scree.varlen_attention``.

    Notes
    -----
    Holds one row's ``heads * length**2`` scores at a time. Reads the offsets on the host, which syncs a
    device once for each layout.

    Examples
    --------
    >>> import numpy as np, scree
    >>> from scree.kernels import reference
    >>> x = scree.from_lengths(np.ones((5, 2, 8)), [3, 2])
    >>> bool(np.allclose(reference.varlen_attention(x, x, x, causal=True).values, 1))
    True
    """
    for name, arr in (("q", q), ("k", k), ("v", v)):
        check_array(arr, name)
        _check_identical(q, arr, name)
    out, _ = _run("varlen_attention", q, k, v, causal=causal, scale=scale)
    return restore(q, out)


def varlen_layernorm(
    x: Array[ArrayT], weight: ArrayT | None = None, bias: ArrayT | None = None, eps: float = 1e-5
) -> Array[ArrayT]:
    """Normalise each element to mean 0 and variance 1 over its last axis, by the reference.

    Parameters, result and errors are those of ``scree.varlen_layernorm``.

    Examples
    --------
    >>> import numpy as np, scree
    >>> from scree.kernels import reference
    >>> x = scree.from_lengths(np.array([[1.0, 3.0], [2.0, 6.0]]), [1, 1])
    >>> reference.varlen_layernorm(x, eps=0.0).values
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    normalised = _run("varlen_layernorm", x, weight, bias, eps=eps)
    return x.with_values(normalised)


def varlen_rmsnorm(x: Array[ArrayT], weight: ArrayT | None = None, eps: float = 1e-6) -> Array[ArrayT]:
    """Divide each element by the root mean square of its last axis, by the reference.

    Parameters, result and errors are those of ``scree.varlen_rmsnorm``.

    Examples
    --------
    >>> import numpy as np, scree
    >>> from scree.kernels import reference
    >>> x = scree.from_lengths(np.array([[3.0, 3.0], [5.0, -5.0]]), [1, 1])
    >>> reference.varlen_rmsnorm(x, eps=0.0).values
    array([[ 1.,  1.],
           [ 1., -1.]])
    """
    normalised = _run("varlen_rmsnorm", x, weight, eps=eps)
    return x.with_values(normalised)


def varlen_softmax(x: Array[ArrayT]) -> Array[ArrayT]:
    """Make the elements of each row positive with sum 1, for each feature by itself, by the reference.

    Parameters, result and errors are those of ``scree.varlen_softmax``. Reads the offsets on the
    host, which syncs a device once for each layout.

    Examples
    --------
    >>> import numpy as np, scree
    >>> from scree.kernels import reference
    >>> reference.varlen_softmax(scree.from_lengths(np.zeros(5), [1, 4])).values
    array([1.  , 0.25, 0.25, 0.25, 0.25])
    """
    return restore(x, _run("varlen_softmax", x))


def _run(op: str, *args: Any, **kwargs: Any) -> Any:
    """Run the contract's default of an op, which is the reference, on the library of its first argument."""
    call = prepared(op, *args, **kwargs)
    base = choose(call, args[0].backend.name)
    return getattr(Backend, op)(base, *call.args, **call.kwargs)


def _check_identical(q: Array[Any], other: Array[Any], name: str) -> None:
    same = q.layout.same(other.layout)
    if same is None:  # only the device knows; the reference reads them anyway
        same = np.array_equal(q.backend.host_offsets(q.layout), other.backend.host_offsets(other.layout))
    if not same:
        raise ShapeError(
            f"self-attention needs identical offsets for q, k and v, but those of {name} differ from those of q "
            f"({q.batch_size} rows of {q.total_length} elements, and {other.batch_size} of {other.total_length}); "
            "for cross-attention use scree.varlen_attention"
        )
