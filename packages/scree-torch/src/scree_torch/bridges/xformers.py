"""The ``BlockDiagonalMask`` of xFormers: offsets on the device and on the host, of queries and of keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scree_core import Array, Layout
from scree_core.arguments import check_array
from scree_core.bridges.cu_seqlens import narrow_offsets
from scree_core.bridges.library import library
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.ops.varlen_attention import checked_window
from scree_torch.bridges.torch import to_torch

_FIELDS = ("seqstart", "seqstart_py")


def to_xformers(
    q: Array[Any], k: Array[Any] | None = None, *, causal: bool = False, window: tuple[int, int] | None = None
) -> Any:
    """Return the bias with which xFormers lets each row see itself alone, as ``scree.varlen_attention`` does.

    Parameters
    ----------
    q : Array
        The rows of the queries. Only where they lie counts, not their values.
    k : Array, optional
        The rows of the keys and values; by default those of the queries. Of the same batch size.
    causal : bool, default False
        Query ``i`` of a row with ``lq`` queries and ``lk`` keys sees the keys up to ``i + lk - lq``: aligned to the
        bottom right, while ``BlockDiagonalMask.make_causal`` aligns to the top left.
    window : (left, right), optional
        A query sees at most ``left`` keys before its own (bottom-right) position, -1 for no bound. xFormers has windows
        in causal attention alone: without ``causal``, ``right`` must be 0, or both -1.

    Returns
    -------
    xformers.ops.fmha.attn_bias.BlockDiagonalMask
        Or one of its causal kinds, for ``memory_efficient_attention`` of queries ``(1, total_q, heads, head_dim)`` and
        keys ``(1, total_k, heads, head_dim)``: ``q.values[None]``.

    Raises
    ------
    ArgumentTypeError
        ``q`` or ``k`` isn't a ``scree.Array``, or ``window`` no pair.
    ArgumentError
        A window that xFormers has no mask for, or a bound below -1.
    ShapeError
        Batch sizes or devices differ, there is a tail, more than 2**31 - 1 elements, or, where it is causal, a row of
        more queries than keys: the first of those would see nothing, which xFormers refuses.
    BackendNotInstalledError
        xFormers isn't installed.

    Notes
    -----
    int32 offsets are shared (``bias.q_seqinfo.seqstart is q.offsets``); int64 ones are copied to int32, once for a
    layout. Offsets are read on the host, once for a layout, a sync where it doesn't know them: xFormers keeps them as
    a list as well.

    A query whose row has no keys sees nothing: scree gives 0 there, and what xFormers gives is its own affair.
    """
    k = q if k is None else k
    check_array(q, "q")
    check_array(k, "k")
    q, k = to_torch(q), to_torch(k)
    if q.batch_size != k.batch_size:
        raise ShapeError(f"q and k need the same batch size, got {q.batch_size} and {k.batch_size} rows")
    if q.offsets.device != k.offsets.device:
        raise ShapeError(
            f"q is on {q.offsets.device}, k on {k.offsets.device}; move one with scree.bridges.to_torch(k, device)"
        )
    left, right = checked_window(window, q.total_length + k.total_length)
    causal = causal or right == 0
    if not causal and (left, right) != (-1, -1):
        raise ArgumentError(
            f"window={window!r} isn't causal, and xFormers has no such mask of blocks: use causal=True, or "
            "scree.varlen_attention, or flex_attention with scree.bridges.to_block_mask"
        )
    biases = library("xformers.ops.fmha.attn_bias", "to_xformers", "xformers")
    q_host, k_host = _host(q, "q"), _host(k, "k")
    same = np.array_equal(q_host, k_host)
    if causal and not same:
        _check_causal(q_host, k_host)
    queries = _seqinfo(biases, q, q_host, "q")
    keys = queries if same else _seqinfo(biases, k, k_host, "k")  # one for both is what bias.split asks for
    if not causal:
        return biases.BlockDiagonalMask(queries, keys)
    # Rows of one length each have top left where bottom right is, and more of xFormers' kernels know the former.
    if left < 0:
        kind = biases.BlockDiagonalCausalMask if same else biases.BlockDiagonalCausalFromBottomRightMask
        return kind(queries, keys)
    local = "BlockDiagonalCausalLocalAttentionMask" if same else "BlockDiagonalCausalLocalAttentionFromBottomRightMask"
    return getattr(biases, local)(queries, keys, _window_size=left + 1)


def from_xformers(values: torch.Tensor, bias: Any, *, rows: str = "q") -> Array[torch.Tensor]:
    """Return what lies as a ``BlockDiagonalMask`` says as an Array, such as ``memory_efficient_attention``'s result.

    Parameters
    ----------
    values : tensor of shape (1, total, ...)
        As ``BlockDiagonalMask.from_tensor_list`` gives them, and as xFormers takes and returns them.
    bias : xformers.ops.fmha.attn_bias.BlockDiagonalMask
        Or one of its causal kinds, or anything with its fields ``q_seqinfo`` and ``k_seqinfo``.
    rows : {"q", "k"}, default "q"
        Whether the values lie as queries do, or as keys.

    Returns
    -------
    Array
        On the memory of ``values``, and with the offsets ``bias.q_seqinfo.seqstart`` or ``bias.k_seqinfo.seqstart``.

    Raises
    ------
    ArgumentTypeError
        ``values`` is no tensor; ``bias`` hasn't these fields, or has gaps between its rows (padded, gappy or paged
        keys), which an Array hasn't.
    ArgumentError
        ``rows`` is neither of these.
    ShapeError
        The values aren't ``(1, total, ...)``, lie on another device, or there are more or fewer than the bias says.

    Notes
    -----
    Nothing is copied, no sync, and gradients flow back to the values. Which rows ``from_tensor_list`` took from one
    tensor is forgotten: each row stands for itself. ``from_seqlens_inplace`` of the bias changes the offsets below the
    Array, which doesn't know of it: make a new one then.

    Examples
    --------
    >>> import torch, scree
    >>> from types import SimpleNamespace
    >>> from scree_torch.bridges import from_xformers
    >>> info = SimpleNamespace(seqstart=torch.tensor([0, 1, 3], dtype=torch.int32), seqstart_py=[0, 1, 3])
    >>> bias = SimpleNamespace(q_seqinfo=info, k_seqinfo=info)  # as BlockDiagonalMask.from_seqlens([1, 2]) has them
    >>> from_xformers(torch.arange(3.0)[None], bias)[1]
    tensor([1., 2.])
    """
    if not isinstance(values, torch.Tensor):
        raise ArgumentTypeError(f"values must be a tensor, got {type(values).__name__}")
    if rows not in ("q", "k"):
        raise ArgumentError(f"rows must be 'q' or 'k', got {rows!r}")
    info: Any = getattr(bias, f"{rows}_seqinfo", None)
    if not all(hasattr(info, field) for field in _FIELDS):
        raise ArgumentTypeError(
            f"bias must have {rows}_seqinfo with {' and '.join(_FIELDS)}, as xFormers' BlockDiagonalMask has, got "
            f"{type(bias).__name__}"
        )
    if hasattr(info, "seqlen"):
        raise ArgumentTypeError(
            f"the {rows} rows of {type(bias).__name__} have gaps between them, which an Array hasn't: take their "
            "elements out and use scree.from_lengths"
        )
    if values.ndim < 2 or values.shape[0] != 1:
        raise ShapeError(f"values must be (1, total, ...), as xFormers has them, got {tuple(values.shape)}")
    if values.device != info.seqstart.device:
        raise ShapeError(f"values are on {values.device}, bias on {info.seqstart.device}; use bias.to({values.device})")
    if values.shape[1] != info.seqstart_py[-1]:
        raise ShapeError(
            f"values have {values.shape[1]} elements, but the {rows} rows of bias have {info.seqstart_py[-1]}; "
            "rows='k' is for what lies as keys do"
        )
    layout = Layout(info.seqstart, total=values.shape[1], host=np.array(info.seqstart_py, np.int32))
    return Array.trusted(values[0], layout)


def _host(arr: Array[torch.Tensor], name: str) -> np.ndarray:
    """Return the offsets on the host, of rows that end where the values do."""
    host = arr.backend.host_offsets(arr.layout)
    if host[-1] != arr.total_length:
        raise ShapeError(
            f"{name} has a tail, {arr.total_length - host[-1]} elements behind its last row, and xFormers' masks end "
            f"with their rows: cut it off, scree.unbucket({name})"
        )
    return host


def _check_causal(q_host: np.ndarray, k_host: np.ndarray) -> None:
    more = np.diff(q_host) > np.diff(k_host)
    if more.any():
        i = int(more.argmax())
        raise ShapeError(
            f"row {i} has {np.diff(q_host)[i]} queries and {np.diff(k_host)[i]} keys; aligned to the bottom right the "
            "first queries see nothing, which xFormers refuses: use scree.varlen_attention, which gives 0 there"
        )


def _seqinfo(biases: Any, arr: Array[torch.Tensor], host: np.ndarray, name: str) -> Any:
    """Return where rows begin, as xFormers keeps it."""
    lengths = np.diff(host)
    return biases._SeqLenInfo(
        seqstart=narrow_offsets(arr, name),
        max_seqlen=int(lengths.max(initial=-1)),  # -1 of no rows, as xFormers has it
        min_seqlen=int(lengths.min()) if lengths.size else -1,
        seqstart_py=host.tolist(),
    )
