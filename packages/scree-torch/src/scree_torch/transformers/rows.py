"""Which rows a call of attention has: those of a padded batch, of packed ones, or whole sequences.

Every layer of a model asks the same, so that what was read of a mask or of positions is kept with that tensor.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from scree_core import Array, Layout
from scree_core.bridges.hf_flattened import begins_of
from scree_core.errors import ShapeError, UnsupportedError
from scree_core.layout import offsets_from_lengths
from scree_torch.convert import from_numpy, to_numpy
from scree_torch.transformers.kept import kept


class Side(NamedTuple):
    """Rows of queries, or of keys."""

    layout: Layout[torch.Tensor]
    cells: torch.Tensor | None = None
    """Where their elements lie in the batch, ``(total,)``; None for all of it."""


class Rows(NamedTuple):
    """Rows of queries and of keys."""

    q: Side
    k: Side


class Told(NamedTuple):
    """What a model tells attention of its rows."""

    mask: torch.Tensor | None
    """Of shape ``(batch, keys)``, bool: True where a token is real."""
    position_ids: torch.Tensor | None
    """Of shape ``(batch or 1, queries)``."""
    cu_seq_lens_q: torch.Tensor | None
    cu_seq_lens_k: torch.Tensor | None
    max_length_q: Any
    max_length_k: Any


def rows_of(told: Told, batch: int, queries: int, keys: int, like: torch.Tensor, *, ordered: bool) -> Rows:
    """Return the rows of a call.

    Parameters
    ----------
    told : Told
        What tells them: cumulative lengths, else a mask, else positions.
    batch, queries, keys : int
        Sizes of the batch.
    like : torch.Tensor
        Whose device layouts are made on.
    ordered : bool
        Whether it matters where a query is, as it does under a causal mask or a window. Where it doesn't, all
        queries see the real keys, those of padding too.

    Raises
    ------
    ShapeError
        Rows are told in two ways, or don't fit the batch.
    UnsupportedError
        Something that these rows can't say: a mask with more axes, positions with several numbers to a token, packed
        rows in front of a cache, a window over holes.
    """
    if told.cu_seq_lens_q is not None or told.cu_seq_lens_k is not None:
        return _packed(told, batch, queries, keys, like)
    if told.mask is not None:
        _check_mask(told.mask, batch, keys)
        found = _mask_of(told.mask)
        _check_not_packed_too(told, found, queries, keys)
        if not ordered:
            return Rows(whole(batch, queries, like), found.side)
        if queries == keys:
            return Rows(found.side, found.side)
        return Rows(_mask_of(told.mask, queries).side, found.side)
    if told.position_ids is not None and queries > 1:
        begins = _begins_of(told.position_ids, queries)
        if begins is not None:
            if queries != keys:
                raise UnsupportedError(
                    f"position_ids begin anew within the {queries} new tokens, and the cache holds others before them; "
                    "give packed rows in one call, without past_key_values"
                )
            side = kept(told.position_ids, f"rows {batch}", lambda: _begun(begins, batch, like))
            return Rows(side, side)
    q = whole(batch, queries, like)
    return Rows(q, q if queries == keys else whole(batch, keys, like))


# ---------------------------------------------------------------------- packed


def _packed(told: Told, batch: int, queries: int, keys: int, like: torch.Tensor) -> Rows:
    if batch != 1:
        raise ShapeError(
            f"cu_seq_lens tell the rows of one packed sequence, and this batch has {batch}; flatten it to (1, total), "
            "or leave cu_seq_lens out"
        )
    if told.mask is not None:
        raise ShapeError(
            "cu_seq_lens and attention_mask are both given, and tell of rows differently; leave attention_mask out, "
            "also one of all ones"
        )
    if told.cu_seq_lens_q is None:
        raise ShapeError("cu_seq_lens_k is given without cu_seq_lens_q, which tells the rows of the queries; give both")
    q = by_lengths(told.cu_seq_lens_q, told.max_length_q, queries, "cu_seq_lens_q", like)
    if told.cu_seq_lens_k is None or told.cu_seq_lens_k is told.cu_seq_lens_q:
        return Rows(q, q if queries == keys else by_lengths(told.cu_seq_lens_q, None, keys, "cu_seq_lens_q", like))
    return Rows(q, by_lengths(told.cu_seq_lens_k, told.max_length_k, keys, "cu_seq_lens_k", like))


def by_lengths(source: torch.Tensor, longest: Any, total: int, name: str, like: torch.Tensor) -> Side:
    """Return packed rows by their cumulative lengths."""
    if source.device != like.device:
        raise ShapeError(f"{name} is on {source.device} and the model on {like.device}; move it there")
    longest = None if longest is None else int(longest)

    def make() -> Side:
        # Some trainers add an axis to all that they collate.
        offsets = source[0] if source.ndim == 2 and source.shape[0] == 1 else source
        return Side(Array(torch.empty((total, 0), device=like.device), offsets, max_length=longest).layout)

    return kept(source, f"{name} {total} {longest}", make)


def _begins_of(position_ids: torch.Tensor, queries: int) -> np.ndarray | None:
    """Return where rows begin, ``(batch or 1, queries)``, or None where they are whole or those are of others."""
    found = kept(position_ids, "begins", lambda: _read_positions(position_ids))
    return None if found is None or found.shape[-1] != queries else found


def _read_positions(position_ids: torch.Tensor) -> np.ndarray | None:
    if position_ids.ndim == 3:
        raise UnsupportedError(
            f"position_ids of shape {tuple(position_ids.shape)} have several numbers for each token, which don't tell "
            "where rows begin; give cu_seq_lens_q and max_length_q, or an attention_mask"
        )
    begins = begins_of(to_numpy(position_ids))
    return begins if begins[:, 1:].any() else None


def _begun(begins: np.ndarray, batch: int, like: torch.Tensor) -> Side:
    begins = np.broadcast_to(begins, (batch, begins.shape[1])).ravel()
    return Side(_layout(np.diff(np.append(np.flatnonzero(begins), begins.size)), like.device))


# ---------------------------------------------------------------------- padded


class _Mask(NamedTuple):
    """What was read of a mask."""

    host: np.ndarray
    side: Side
    has_holes: bool


def _check_mask(mask: torch.Tensor, batch: int, keys: int) -> None:
    if mask.ndim != 2:
        raise UnsupportedError(
            f"attention_mask of shape {tuple(mask.shape)} tells of each query; scree's attention takes "
            "(batch, length), True or 1 where a token is real. Where the model made it, load it with "
            'attn_implementation="sdpa" or "eager", or try a newer transformers, where fewer models do'
        )
    if tuple(mask.shape) != (batch, keys):
        raise ShapeError(f"attention_mask must have shape (batch, length) = ({batch}, {keys}), got {tuple(mask.shape)}")


def _mask_of(mask: torch.Tensor, last: int | None = None) -> _Mask:
    """Return what there is to know of a mask, or of its last columns."""
    return kept(mask, ("mask", last), lambda: _read_mask(mask if last is None else mask[:, -last:]))


def _read_mask(mask: torch.Tensor) -> _Mask:
    host = to_numpy(mask).astype(bool)
    lengths = host.sum(axis=1)
    cells = None if host.all() else from_numpy(np.flatnonzero(host), mask.device)
    changes = np.diff(host.astype(np.int8), axis=1, prepend=0, append=0)
    has_holes = bool(((changes == 1).sum(axis=1) > 1).any())
    return _Mask(host, Side(_layout(lengths, mask.device), cells), has_holes)


def _check_not_packed_too(told: Told, mask: _Mask, queries: int, keys: int) -> None:
    """Refuse a mask beside positions that begin anew within it: one of the two would be overlooked."""
    if told.position_ids is None or queries == 1 or told.position_ids.ndim != 2:
        return
    begins = _begins_of(told.position_ids, queries)
    if begins is None:
        return
    real = mask.host[:, keys - queries :]
    within = np.broadcast_to(begins, real.shape).copy()
    within[:, 1:] &= real[:, 1:] & real[:, :-1]
    if within[:, 1:].any():
        row, at = np.argwhere(within[:, 1:])[0]
        raise ShapeError(
            f"position_ids begin anew at token {at + 1} of sequence {row}, as packed rows do, and attention_mask says "
            "that it belongs to the token before; for packed rows leave attention_mask out, also one of all ones"
        )


def check_no_holes(told: Told) -> None:
    """Refuse a window where tokens in the middle are masked: what is left has other distances."""
    if told.mask is not None and _mask_of(told.mask).has_holes:
        raise UnsupportedError(
            "attention_mask has holes, and within a sliding window the distances of what is left would shrink; pad on "
            "the left or on the right alone"
        )


# ---------------------------------------------------------------------- both


def whole(batch: int, length: int, like: torch.Tensor) -> Side:
    """Return rows that fill the batch."""
    return _filled(batch, length, like.device)


@lru_cache(maxsize=64)
def _filled(batch: int, length: int, device: torch.device) -> Side:
    return Side(_layout(np.full(batch, length), device))


def _layout(lengths: np.ndarray, device: torch.device) -> Layout[torch.Tensor]:
    host = offsets_from_lengths(lengths.astype(np.int64))
    with torch.inference_mode(False):  # what is kept may be saved for backward later
        return Layout.known(from_numpy(host, device), host)
