"""Attention of each row's queries over that row's keys alone."""

from __future__ import annotations

import math
from collections.abc import Hashable
from operator import index
from typing import Any

from scree_core.arguments import check_array, check_floating, check_number, front, layout_of, restore
from scree_core.array import Array
from scree_core.array.elementwise import check_same_layout
from scree_core.dispatch import Call, bind, common_candidates, run, selected
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.programs import keep, program_of
from scree_core.protocols import ArrayT
from scree_core.tail import with_tail


def varlen_attention(
    q: Array[ArrayT],
    k: Array[ArrayT],
    v: Array[ArrayT],
    *,
    causal: bool = False,
    scale: float | None = None,
    window: tuple[int, int] | None = None,
    softcap: float | None = None,
    sinks: ArrayT | None = None,
    return_lse: bool = False,
    backend: str | None = None,
) -> Any:
    """Attend from each row's queries to that row's keys, and to no other row's.

    Parameters
    ----------
    q : Array with values (total_q, heads, head_dim)
        Floating point.
    k : Array with values (total_k, kv_heads, head_dim)
        ``heads`` is a multiple of ``kv_heads``: query head ``h`` uses head ``h // (heads // kv_heads)``
        (grouped-query attention; multi-query with one). Of the batch size of q; its offsets may differ
        (cross-attention, decoding with a cache).
    v : Array with values (total_k, kv_heads, head_dim_v)
        On the offsets of k.
    causal : bool, default False
        Query ``i`` of a row with ``lq`` queries and ``lk`` keys sees the keys up to ``i + lk - lq``:
        aligned to the bottom right, as FlashAttention since 2.1.
    scale : float, optional
        Factor on the scores; by default ``1 / sqrt(head_dim)``.
    window : (left, right), optional
        A query sees at most ``left`` keys before and ``right`` behind its own (bottom-right) position,
        both inclusive; -1 for no bound.
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``, as in Gemma 2.
    sinks : array of shape (heads,), optional
        One more logit per head in the softmax's denominator, without a value, as in gpt-oss. Not scaled
        or capped.
    return_lse : bool, default False
        Return the log-sum-exp of the scores too.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    out : Array with values (total_q, heads, head_dim_v)
        On the layout of q, in its dtype. A query that sees no key gives zeros.
    lse : Array with values (total_q, heads)
        Only with ``return_lse``: float32 (float64 for float64 input), of the scaled, capped, visible
        scores without the sink; ``-inf`` where no key is seen.

    Raises
    ------
    ShapeError
        Shapes, head counts, dtypes, batch sizes or layouts don't fit; the message names them.
    ArgumentError
        ``scale`` isn't finite, ``softcap`` isn't positive, or a window bound is below -1.

    Notes
    -----
    For each query and head, with ``j`` over the visible keys and ``s_j = scale * dot(q, k_j)``, capped:

        out = sum_j exp(s_j) * v_j / (exp(sink) + sum_j exp(s_j))
        lse = log(sum_j exp(s_j))

    (Vaswani et al. 2017, eq. 1; softcap: Gemma 2 report, section 2; sinks: Xiao et al. 2023.) The softmax
    is computed in float32 or wider. Extra memory is the backend's to say; the reference holds one row's
    ``heads * lq * lk`` scores.

    Examples
    --------
    >>> import numpy as np, scree
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = (scree.from_lengths(rng.standard_normal((5, 2, 8)), [3, 2]) for _ in range(3))
    >>> scree.varlen_attention(q, k, v, causal=True)
    scree.Array(batch_size=2, total_length=5, feature_shape=(2, 8), dtype=float64)
    """
    form = _form(q, k, v, sinks, (causal, scale, window, softcap, return_lse, backend))
    program = None if form is None else program_of(form)
    if program is None:
        call = prepare(
            q, k, v, causal=causal, scale=scale, window=window, softcap=softcap, sinks=sinks, return_lse=return_lse
        )
        if form is None:
            return _restored(q, run(call, backend), return_lse)
        program = bind(call, backend)
        keep(form, program)
    arrays = {} if sinks is None else {"sinks": sinks}
    return _restored(q, program(q.values, k.values, v.values, q.layout, k.layout, **arrays), return_lse)


def _restored(q: Array[Any], found: tuple[Any, Any], return_lse: bool) -> Any:
    """Return the results that were asked for as Arrays on the layout of q."""
    out, lse = found
    out = restore(q, out)
    if not return_lse:
        return out
    return out, Array.trusted(with_tail(q.backend, lse, q.layout, q.total_length), q.layout)


def _form(q: Any, k: Any, v: Any, sinks: Any, options: tuple[Any, ...]) -> Hashable | None:
    """Return all that ``prepare`` and the choice of a backend look at; None for what isn't worth telling apart.

    Equal options of other types than these could be errors: True is 1.0, and no scale.
    """
    causal, scale, window, softcap, return_lse, backend = options
    if not (type(q) is type(k) is type(v) is Array and type(causal) is type(return_lse) is bool):
        return None
    if not (type(scale) in _NUMBERS and type(softcap) in _NUMBERS and type(backend) in _NAMES):
        return None
    if window is not None and (type(window) is not tuple or tuple(map(type, window)) != (int, int)):
        return None
    rows, others = q.layout, k.layout
    if others.offsets is not v.layout.offsets or rows.tail or others.tail or v.layout.tail:
        return None
    if q.ragged_dim or k.ragged_dim or v.ragged_dim:
        return None
    arrays = (q.values, k.values, v.values) if sinks is None else (q.values, k.values, v.values, sinks)
    values = q.backend.form(*arrays)
    if values is None:
        return None
    offsets, keys = rows.offsets, others.offsets
    where = offsets.shape, offsets.dtype, rows.max_length, others.max_length
    if keys is not offsets:
        where = *where, keys.shape, keys.dtype
    return values, where, options, selected()


_NUMBERS = frozenset((float, int, type(None)))
_NAMES = frozenset((str, type(None)))


def prepare(
    q: Array[Any],
    k: Array[Any],
    v: Array[Any],
    *,
    causal: bool = False,
    scale: float | None = None,
    window: tuple[int, int] | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    return_lse: bool = False,
) -> Call:
    """Check the arguments and fill the defaults."""
    for arr, name in ((q, "q"), (k, "k"), (v, "v")):
        check_array(arr, name)
        if len(arr.values.shape) != 3:
            raise ShapeError(
                f"{name} needs values (total, heads, head_dim), got {arr.ndim}-D {tuple(arr.values.shape)}"
            )
        check_floating(arr, "varlen_attention", name)
    heads, head_dim = _checked_heads(q, k, v)
    arrays = {"q": q.values, "k": k.values, "v": v.values}
    if sinks is not None:
        if tuple(getattr(sinks, "shape", ())) != (heads,):
            raise ShapeError(f"sinks must have shape (heads,) = ({heads},), got {getattr(sinks, 'shape', type(sinks))}")
        arrays["sinks"] = sinks
    options = {
        "causal": bool(causal),
        "scale": _checked_scale(scale, head_dim),
        "window": checked_window(window, q.total_length + k.total_length),
        "softcap": _checked_softcap(softcap),
        "sinks": sinks,
        "return_lse": bool(return_lse),
    }
    return Call("varlen_attention", (front(q), front(k), front(v), layout_of(q), layout_of(k)), options, arrays)


def _checked_heads(q: Array[Any], k: Array[Any], v: Array[Any]) -> tuple[int, int]:
    """Check that q, k and v fit, and return the heads and head_dim of q."""
    if k.layout is not v.layout or k.ragged_dim != v.ragged_dim:
        check_same_layout(k, v, "k and v")
    if q.layout is not k.layout and q.batch_size != k.batch_size:
        raise ShapeError(f"q and k need the same batch size, got {q.batch_size} and {k.batch_size} rows")
    if not q.values.dtype == k.values.dtype == v.values.dtype:
        common_candidates({"q": q.values, "k": k.values, "v": v.values})  # of two libraries no two dtypes are equal
        raise ShapeError(f"q, k and v need one dtype, got {q.dtype}, {k.dtype} and {v.dtype}")
    (heads, head_dim), (kv_heads, k_dim) = q.feature_shape, k.feature_shape
    if head_dim != k_dim:
        raise ShapeError(f"q and k need the same head_dim, got {head_dim} and {k_dim}")
    if v.feature_shape[0] != kv_heads:
        raise ShapeError(f"k and v need the same number of heads, got {kv_heads} and {v.feature_shape[0]}")
    if kv_heads == 0 or heads % kv_heads != 0:
        raise ShapeError(f"the {heads} heads of q must be a multiple of the {kv_heads} heads of k and v")
    return heads, head_dim


def _checked_scale(scale: float | None, head_dim: int) -> float:
    if scale is None:
        return 1.0 / math.sqrt(max(1, head_dim))
    number = check_number("scale", scale)
    if not -math.inf < number < math.inf:  # math.isfinite can't be traced by torch.compile
        raise ArgumentError(f"scale must be finite, got {scale}")
    return number


def _checked_softcap(softcap: float | None) -> float | None:
    if softcap is None:
        return None
    number = check_number("softcap", softcap)
    if not 0 < number < math.inf:
        raise ArgumentError(f"softcap must be a positive number, or None for no cap, got {softcap}")
    return number


def checked_window(window: tuple[int, int] | None, reach: int) -> tuple[int, int]:
    """Return the bounds; those that reach over any row become -1, so that no backend's integers overflow."""
    if window is None:
        return (-1, -1)
    try:
        left, right = map(index, window if isinstance(window, (tuple, list)) else ())
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"window must be a pair (left, right), -1 for no bound, both integers, got {window!r}"
        ) from None
    if left < -1 or right < -1:
        raise ArgumentError(f"window bounds must be -1 (no bound) or more, got {window!r}")
    return (-1 if left > reach else left, -1 if right > reach else right)
