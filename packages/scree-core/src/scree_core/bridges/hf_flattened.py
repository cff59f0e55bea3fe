"""The flattened batch of Hugging Face models: every row in one long sequence, without padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scree_core.arguments import INTEGER_DTYPES, check_array, check_holds
from scree_core.array import Array
from scree_core.array.elementwise import check_same_layout
from scree_core.bridges.as_int64 import as_int64
from scree_core.bridges.cu_seqlens import int32_offsets, longest_row
from scree_core.bridges.rows_first import rows_first
from scree_core.construct.offsets import offsets_from_segment_ids
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.layout import INT32_MAX, checked_bound, offsets_from_lengths
from scree_core.protocols import ArrayT
from scree_core.registry import backend_of

SOURCES = ("cu_seq_lens_q", "seq_idx", "position_ids")
"""What tells where rows begin, the one that says most first."""


def to_hf_flattened(
    input_ids: Array[ArrayT],
    labels: Array[ArrayT] | None = None,
    *,
    separator_id: int | None = -100,
    position_ids_start: int = 0,
    return_seq_idx: bool = False,
) -> dict[str, Any]:
    """Return token ids as the flattened batch of transformers: ``model(**batch)`` with FlashAttention.

    Parameters
    ----------
    input_ids : Array
        Token ids ``(total,)`` of any integer dtype.
    labels : Array, optional
        Of the same rows. For a causal model pass the token ids again: the model shifts them by itself.
    separator_id : int, optional
        What the first label of each row becomes; -100, the default, keeps a row's last token from being taught
        to predict the first of the next. With None labels stay as they are.
    position_ids_start : int, default 0
        Position of the first token of each row; models like RoBERTa want 2.
    return_seq_idx : bool, default False
        Whether to add ``seq_idx``, which models with state spaces take (Mamba and hybrids).

    Returns
    -------
    dict
        ``input_ids`` and ``position_ids``, ``(1, total)``; ``cu_seq_lens_q`` and ``cu_seq_lens_k``, one object,
        int32 ``(batch + 1,)``; ``max_length_q`` and ``max_length_k``, Python integers; where asked for,
        ``labels`` and ``seq_idx``, ``(1, total)``. Positions and labels are int64, int32 in JAX without x64.

    Raises
    ------
    ShapeError
        Token ids or labels aren't ``(total,)`` integers or differ in their rows, or there are more than
        2**31 - 1 tokens, which int32 can't count.
    ArgumentError
        The dtype of the labels can't hold ``separator_id``.
    ArgumentTypeError
        ``input_ids`` or ``labels`` is no ``scree.Array``, or a number isn't one.

    Notes
    -----
    The same as ``DataCollatorWithFlattening`` makes, but that ``input_ids`` keeps its dtype: it is a view of the
    values, and ``cu_seq_lens_q`` is ``offsets`` where those are int32. The rest is new. ``max_length_q`` may be
    the bound that the Array carries; no sync where it carries one and no tail. A tail is cut off, which reads the
    offsets on the host. Empty rows have no first label to replace.

    Examples
    --------
    >>> import numpy as np, scree
    >>> ids = scree.from_lengths(np.array([5, 6, 7]), [1, 2])
    >>> batch = scree.bridges.to_hf_flattened(ids, labels=ids)
    >>> batch["input_ids"].tolist(), batch["position_ids"].tolist(), batch["labels"].tolist()
    ([[5, 6, 7]], [[0, 0, 1]], [[-100, -100, 7]])
    >>> batch["cu_seq_lens_q"].tolist(), batch["max_length_q"]
    ([0, 1, 3], 2)
    """
    _check_ids(input_ids, "input_ids")
    if labels is not None:
        _check_ids(labels, "labels")
        check_same_layout(input_ids, labels, "input_ids and labels")
    start = checked_bound("position_ids_start", position_ids_start)
    if input_ids.total_length > INT32_MAX:
        raise ShapeError(
            f"cu_seq_lens_q is int32 and can't count {input_ids.total_length} tokens; make several batches"
        )
    backend, ids = input_ids.backend, rows_first(input_ids)
    positions = as_int64(backend, ids.positions)
    long = {"input_ids": ids.values}
    if labels is not None:
        long["labels"] = _separated(rows_first(labels), positions, separator_id)
    long["position_ids"] = positions + start if start else positions
    if return_seq_idx:
        long["seq_idx"] = backend.astype(ids.segment_ids, "int32")
    batch: dict[str, Any] = {name: backend.xp.reshape(x, (1, ids.total_length)) for name, x in long.items()}
    batch["cu_seq_lens_q"] = batch["cu_seq_lens_k"] = int32_offsets(ids)
    batch["max_length_q"] = batch["max_length_k"] = longest_row(ids)
    return batch


def _check_ids(arr: Any, name: str) -> None:
    check_array(arr, name)
    dtype = arr.backend.dtype_name(arr.values)
    if arr.ndim != 1 or dtype not in INTEGER_DTYPES:
        raise ShapeError(
            f"{name} must be (total,) integers, got {dtype} values of shape {tuple(arr.values.shape)}; "
            "hand hidden states to the model as inputs_embeds=arr.values[None]"
        )


def _separated(labels: Array[Any], positions: Any, separator_id: int | None) -> Any:
    backend = labels.backend
    wide = as_int64(backend, labels.values)
    if separator_id is None:
        return wide
    check_holds("separator_id", separator_id, backend.dtype_name(wide))
    return backend.xp.where(positions == 0, backend.full_like(wide, separator_id), wide)


def from_hf_flattened(
    values: ArrayT,
    batch: Mapping[str, Any] | None = None,
    *,
    cu_seq_lens_q: ArrayT | None = None,
    position_ids: ArrayT | None = None,
    seq_idx: ArrayT | None = None,
) -> Array[ArrayT]:
    """Wrap a part or a result of a flattened batch of transformers, such as ``model(**batch).logits``.

    Parameters
    ----------
    values : array of shape (1, total, *features)
        ``batch["input_ids"]``, labels, hidden states, logits: anything with an element for each token.
    batch : mapping, optional
        The batch that ``values`` belongs to, of which whatever tells the rows is taken: the arguments below, and
        ``max_length_q`` as ``max_length``. Other keys are left alone.
    cu_seq_lens_q : array of shape (batch + 1,), int32 or int64, optional
        Cumulative lengths of the rows.
    position_ids : integer array of shape (1, total) or (total,), optional
        A row begins wherever a position isn't the one before it plus 1, whatever it begins with.
    seq_idx : integer array of shape (1, total) or (total,), optional
        Row number of each token, never decreasing; numbers left out are empty rows.

    Returns
    -------
    Array
        On ``values[0]``, a view. With ``cu_seq_lens_q``, on these very offsets; else on int32 ones.

    Raises
    ------
    ArgumentError
        Nothing tells the rows, or one thing is given twice.
    ShapeError
        ``values`` isn't ``(1, total, ...)``; the rows don't fit it; two sources disagree; ``seq_idx`` decreases;
        ``position_ids`` is 3-D, as for M-RoPE; or queries and keys have rows of their own.
    ArgumentTypeError
        Something is no array, or of another library than ``values``, or the batch is no mapping.

    Notes
    -----
    The values aren't copied, and gradients flow back to them. With ``cu_seq_lens_q`` there is no sync: on a device
    it is taken unread, and other sources beside it too, which are compared in host memory alone. Without it they
    are read on the host, one sync for each. Positions know nothing of empty rows, nor can they tell a row from the
    one before that it happens to continue: prefer ``cu_seq_lens_q``, then ``seq_idx``.

    Examples
    --------
    >>> import numpy as np, scree
    >>> logits = np.arange(3.0).reshape(1, 3, 1)
    >>> arr = scree.bridges.from_hf_flattened(logits, position_ids=np.array([[4, 0, 1]]))
    >>> arr.offsets.tolist(), np.shares_memory(arr.values, logits)
    ([0, 1, 3], True)
    """
    shape = tuple(getattr(values, "shape", ()))
    if not hasattr(values, "dtype"):
        raise ArgumentTypeError(
            f'values must be an array, got {type(values).__name__}; of a batch pass a part, batch["input_ids"]'
        )
    if len(shape) < 2 or shape[0] != 1:
        raise ShapeError(f"values must be (1, total, ...), got shape {shape}; (total, ...) lacks an axis: values[None]")
    found = _sources(batch, {"cu_seq_lens_q": cu_seq_lens_q, "seq_idx": seq_idx, "position_ids": position_ids})
    values, best = values[0], next(name for name in SOURCES if name in found)
    bounds = {"max_length": None if batch is None else batch.get("max_length_q")}
    if best == "cu_seq_lens_q":
        arr = Array(values, found[best], **bounds)
        _check_keys(batch, found[best])
    else:
        offsets = _host_offsets(best, found[best], shape[1])
        arr = Array.trusted(values, backend_of(values).layout_from_host(offsets, like=values))
    for name in found:
        if name != best:
            _check_agree(arr, best, name, found[name])
    return arr


def _sources(batch: Any, named: dict[str, Any]) -> dict[str, Any]:
    """Return what was given of ``SOURCES``, by keyword or in the batch."""
    if batch is not None and not isinstance(batch, Mapping):
        raise ArgumentTypeError(
            f"batch must be a mapping, as DataCollatorWithFlattening returns, got {type(batch).__name__}; "
            "pass a single array by keyword, say position_ids=..."
        )
    found = {}
    for name in SOURCES:
        in_batch = None if batch is None else batch.get(name)
        if in_batch is not None and named[name] is not None:
            raise ArgumentError(f"{name} is given twice, in the batch and by keyword; pass one of them")
        given = named[name] if in_batch is None else in_batch
        if given is not None:
            found[name] = given
    if not found:
        keys = "" if batch is None else f" (the batch has {', '.join(map(str, batch)) or 'no keys'})"
        raise ArgumentError(f"nothing tells where rows begin{keys}; pass cu_seq_lens_q, seq_idx or position_ids")
    return found


def _host_offsets(name: str, ids: Any, total: int) -> np.ndarray:
    """Return offsets in host memory from positions or row numbers, one for each of ``total`` tokens."""
    shape = tuple(getattr(ids, "shape", ()))
    if not hasattr(ids, "dtype"):
        raise ArgumentTypeError(f"{name} must be an array, got {type(ids).__name__}")
    if len(shape) == 3:
        raise ShapeError(
            f"{name} of shape {shape} has several positions for each token (M-RoPE), which don't tell the rows; "
            "pass cu_seq_lens_q"
        )
    if shape not in ((1, total), (total,)):
        raise ShapeError(f"{name} must have shape (1, total) = (1, {total}), got {shape}")
    host = backend_of(ids).to_numpy(ids).reshape(total)
    if name == "seq_idx":
        return offsets_from_segment_ids(host, name=name)
    if host.dtype.kind not in "iu":
        raise ShapeError(f"{name} must be integers, got {host.dtype}")
    return offsets_from_lengths(np.diff(np.append(np.flatnonzero(begins_of(host)), total)))


def begins_of(positions: np.ndarray) -> np.ndarray:
    """Return where rows begin along the last axis, bool: wherever a position isn't the one before it plus 1."""
    begins = np.ones(positions.shape, bool)
    begins[..., 1:] = np.diff(positions.astype(np.int64)) != 1  # in a narrow dtype 255 + 1 may be 0
    return begins


def _check_agree(arr: Array[Any], best: str, name: str, ids: Any) -> None:
    """Check that another source has rows begin at the same tokens, unless a device would have to be asked."""
    if best == "cu_seq_lens_q" and (arr.layout.host is None or backend_of(ids).host_view(ids) is None):
        return
    theirs = _host_offsets(name, ids, arr.total_length)
    differ = np.setxor1d(arr.layout.host, theirs)  # pyrefly: ignore[no-matching-overload]
    if differ.size:
        raise ShapeError(
            f"{best} and {name} disagree: a row begins at token {differ[0]} in one of them alone; "
            "pass the one that is right by keyword, without the other"
        )


def _check_keys(batch: Mapping[str, Any] | None, cu_seq_lens_q: Any) -> None:
    """Check that keys lie as queries do, where that can be seen without a sync."""
    keys = None if batch is None else batch.get("cu_seq_lens_k")
    if keys is None or keys is cu_seq_lens_q:
        return
    if tuple(keys.shape) == tuple(cu_seq_lens_q.shape):
        q, k = (backend_of(x).host_view(x) for x in (cu_seq_lens_q, keys))
        if q is None or k is None or np.array_equal(q, k):
            return
    raise ShapeError(
        "cu_seq_lens_q and cu_seq_lens_k differ, and an Array has one of them; instead of the batch pass "
        "cu_seq_lens_q=, the offsets that values lie by"
    )
