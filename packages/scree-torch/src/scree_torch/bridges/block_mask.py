"""The block mask of FlexAttention for rows that attend to themselves, built from their offsets alone."""

from __future__ import annotations

from operator import index
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask

from scree_core import Array, Layout
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.layout import INT32_MAX
from scree_core.ops.varlen_attention import checked_window
from scree_torch.bridges.torch import to_torch
from scree_torch.segments import segment_ids


def to_block_mask(
    q: Array[Any] | Layout[torch.Tensor],
    k: Array[Any] | Layout[torch.Tensor] | None = None,
    *,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    block_size: int | tuple[int, int] = 128,
) -> BlockMask:
    """Return the mask with which ``flex_attention`` lets each row see itself alone, as ``scree.varlen_attention`` does.

    Parameters
    ----------
    q : Array or Layout
        The rows of the queries. Only where they lie counts, not their values.
    k : Array or Layout, optional
        The rows of the keys and values; by default those of the queries. Of the same batch size.
    causal : bool, default False
        Query ``i`` of a row with ``lq`` queries and ``lk`` keys sees the keys up to ``i + lk - lq``.
    window : (left, right), optional
        A query sees at most ``left`` keys before and ``right`` behind its own (bottom-right) position,
        both inclusive; -1 for no bound.
    block_size : int or (int, int), default 128
        Elements in a block of queries and in one of keys, as for ``create_block_mask``.

    Returns
    -------
    torch.nn.attention.flex_attention.BlockMask
        For queries ``(1, heads, total_q, head_dim)`` and keys ``(1, heads, total_k, head_dim)``, on the
        device of the offsets. Elements of a tail see nothing, and nothing sees them.

    Raises
    ------
    ArgumentTypeError
        ``q`` or ``k`` is no Array, and no Layout of tensors; ``window`` is no pair, ``block_size`` no integers.
    ArgumentError
        ``block_size`` isn't positive, or a window bound is below -1.
    ShapeError
        Batch sizes or devices differ, or a Layout doesn't know its total.

    Notes
    -----
    Query ``i`` sees the keys ``first[i] <= j < last[i]``, and both bounds never decrease. So two binary
    searches for each block of keys, and counts of the queries that see anything, tell which blocks are
    empty, full or partial: ``mask_mod`` is never evaluated over pairs, as ``create_block_mask`` does.

    The result is that of ``create_block_mask``, index for index. A BlockMask has room for every pair of
    blocks, in four index tensors: ``16 * ceil(total_q / block) * ceil(total_k / block)`` bytes, 16 MB for
    128,000 tokens, and about as much twice over while it is made. These sizes follow from totals, which the
    host knows, so nothing is read from a device. ``mask_mod`` holds ``first`` and ``last``, 8 bytes for each
    query; ``BlockMask.to`` doesn't move them.

    ``scree.varlen_attention`` gives 0 where a query sees no key; so does ``flex_attention``.

    Examples
    --------
    >>> import torch, scree
    >>> from scree_torch.bridges import to_block_mask
    >>> rows = scree.from_lengths(torch.zeros(5), [2, 3])
    >>> to_block_mask(rows, causal=True, block_size=1).to_dense()[0, 0].tolist()
    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    """
    queries, total_q = _rows(q, "q")
    keys, total_k = (queries, total_q) if k is None else _rows(k, "k")
    if queries.batch_size != keys.batch_size:
        raise ShapeError(f"q and k need the same batch size, got {queries.batch_size} and {keys.batch_size} rows")
    if queries.offsets.device != keys.offsets.device:
        raise ShapeError(
            f"q is on {queries.offsets.device}, k on {keys.offsets.device}; move one with "
            "scree.bridges.to_torch(k, device)"
        )
    left, right = checked_window(window, total_q + total_k)
    block_q, block_k = _checked_block_size(block_size)
    first, last = _seen_keys(queries.offsets, keys.offsets, total_q, left, 0 if causal else right)
    some, every = _blocks(first, last, total_k, block_q, block_k)
    partial = some & ~every
    forwards = *_ordered(partial), *_ordered(every)
    backwards = *_ordered(partial.T), *_ordered(every.T)
    dtype = torch.int32 if max(total_q, total_k) <= INT32_MAX else torch.int64
    first, last = first.to(dtype), last.to(dtype)

    def mask_mod(b: torch.Tensor, h: torch.Tensor, q_idx: torch.Tensor, kv_idx: torch.Tensor) -> torch.Tensor:
        return (kv_idx >= first[q_idx]) & (kv_idx < last[q_idx])

    sizes = {"BLOCK_SIZE": (block_q, block_k), "mask_mod": mask_mod}
    return BlockMask((total_q, total_k), *forwards, *backwards, **sizes)  # pyrefly: ignore[bad-argument-type]


def _rows(x: Any, name: str) -> tuple[Layout[torch.Tensor], int]:
    """Return the layout of an Array, or a layout itself, and its number of elements."""
    if isinstance(x, Array):
        return to_torch(x).layout, x.total_length
    if not isinstance(x, Layout) or not isinstance(x.offsets, torch.Tensor):
        got = f"a Layout of {type(x.offsets).__name__}" if isinstance(x, Layout) else type(x).__name__
        raise ArgumentTypeError(
            f"{name} must be a scree.Array, or a scree.Layout of tensors, got {got}; for cu_seqlens use "
            "scree.Layout(cu_seqlens, total=total)"
        )
    if x.total is not None:
        return x, x.total
    if x.host is not None and not x.tail:
        return x, int(x.host[-1])
    raise ShapeError(f"{name} is a Layout that doesn't know its total; make it with scree.Layout(offsets, total=total)")


def _checked_block_size(block_size: Any) -> tuple[int, int]:
    try:
        pair = block_size if isinstance(block_size, (tuple, list)) else (block_size, block_size)
        block_q, block_k = map(index, pair)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"block_size must be an integer or a pair of them, got {block_size!r}") from None
    if block_q < 1 or block_k < 1:
        raise ArgumentError(f"block_size must be positive, got {block_size!r}")
    return block_q, block_k


def _seen_keys(
    q_offsets: torch.Tensor, k_offsets: torch.Tensor, total_q: int, left: int, right: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first key that each query sees, and the one behind the last; neither ever decreases."""
    q_offsets, k_offsets = q_offsets.to(torch.int64), k_offsets.to(torch.int64)
    # A tail is one more row, of no keys.
    ends = torch.cat([k_offsets[1:], k_offsets[-1:]])
    ids = segment_ids(q_offsets, total_q)
    start, end = k_offsets.index_select(0, ids), ends.index_select(0, ids)
    if left < 0 and right < 0:
        return start, end
    shift = ends - torch.cat([q_offsets[1:], q_offsets[-1:]])
    own = torch.arange(total_q, device=ids.device) + shift.index_select(0, ids)
    # Clamped to its row even where a query sees nothing, so that the bounds stay in order.
    first = start if left < 0 else torch.clamp(own - left, start, end)
    last = end if right < 0 else torch.clamp(own + (right + 1), start, end)
    return first, last


def _blocks(
    first: torch.Tensor, last: torch.Tensor, total_k: int, block_q: int, block_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tell of each pair of blocks whether any query there sees any key, and whether each sees every key."""
    total_q, device = first.shape[0], first.device
    q_begin = torch.arange(0, total_q, block_q, device=device)[:, None]  # (q_blocks, 1)
    q_end = (q_begin + block_q).clamp(max=total_q)
    k_begin = torch.arange(0, total_k, block_k, device=device)  # (k_blocks,)
    k_end = k_begin + block_k
    # The queries that reach into a block of keys, if they see anything, follow one another.
    begin = torch.maximum(torch.searchsorted(last, k_begin, right=True), q_begin)  # (q_blocks, k_blocks)
    end = torch.maximum(torch.minimum(torch.searchsorted(first, k_end), q_end), begin)
    seeing = torch.nn.functional.pad(torch.cumsum(first < last, 0), (1, 0))
    some = seeing[end] > seeing[begin]
    # PyTorch never takes the last block for full if it ends behind the elements.
    whole = q_begin + block_q <= total_q
    every = whole & (first[q_end - 1] <= k_begin) & (last[q_begin] >= k_end)
    return some, every


def _ordered(dense: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how many blocks of each row are marked, and the numbers of those, before those of the others."""
    marks = dense[None, None].to(torch.int8)
    order = torch.argsort(marks, dim=-1, descending=True, stable=True)
    return marks.sum(-1, dtype=torch.int32), order.to(torch.int32, memory_format=torch.contiguous_format)
