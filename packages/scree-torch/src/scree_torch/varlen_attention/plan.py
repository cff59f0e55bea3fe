"""Which tiles a batch is cut into on the CPU, where its offsets are at hand.

Long rows go one by one, as views: whole for a flash kernel, 128 queries at a time for plain products. Rows so
short that a call costs more than its work go together with others of about their lengths, as rectangles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scree_core import reference

BLOCK = 128
"""Queries at a time: their scores stay in cache, and causality skips the keys behind them."""
ALONE = 2**17
"""Multiplications from which a row goes through the flash kernel, one call for it alone."""
SHORT = 2**20
"""Multiplications below which a stretch goes through plain products together with others.

Higher than for the kernel: a stretch takes a dozen calls backwards.
"""
WASTE = 1.3
"""How many times its rows' multiplications a rectangle may do."""
MOST = 2**24
"""Multiplications in a rectangle, so that it stays in cache."""


class Tile(NamedTuple):
    """Stretches of queries, and of the keys that each is multiplied with: where they start, how long they are."""

    q_starts: tuple[int, ...]
    q_lengths: tuple[int, ...]
    k_starts: tuple[int, ...]
    k_lengths: tuple[int, ...]
    first: bool
    """Whether no tile before has any of these keys, and this one has all of their rows'."""


class FlashTile(NamedTuple):
    """A row for a flash kernel."""

    q: slice
    k: slice
    triangle: bool
    """Whether query ``i`` sees the keys up to ``i`` alone: the one mask that the kernel knows."""


def flash_tiles(
    q_offsets: np.ndarray, k_offsets: np.ndarray, *, causal: bool, work: int
) -> tuple[list[FlashTile], np.ndarray]:
    """Find the long rows that a flash kernel can do, in a batch without window and softcap.

    Parameters
    ----------
    q_offsets, k_offsets : numpy.ndarray of shape (batch + 1,)
        Row boundaries.
    causal : bool
        Whether a query sees no key behind its own position.
    work : int
        Multiplications for a query and a key.

    Returns
    -------
    tiles : list of FlashTile
    rest : numpy.ndarray of bool, (batch,)
        The other rows: short, or causal with several queries and another number of keys.
    """
    lq, lk = np.diff(q_offsets), np.diff(k_offsets)
    mine = lq.astype(np.int64) * lk * work >= ALONE
    if causal:
        mine &= (lq == 1) | (lq == lk)
    rows = np.stack([q_offsets[:-1], q_offsets[1:], k_offsets[:-1], k_offsets[1:]], 1)[mine].tolist()
    return [FlashTile(slice(q, q_), slice(k, k_), causal and q_ - q > 1) for q, q_, k, k_ in rows], ~mine


def product_tiles(
    q_offsets: np.ndarray,
    k_offsets: np.ndarray,
    k_lo: np.ndarray,
    k_hi: np.ndarray,
    rows: np.ndarray,
    *,
    work: int,
) -> tuple[list[Tile], np.ndarray, np.ndarray]:
    """Cut rows into tiles of queries and the span of keys that they see.

    Parameters
    ----------
    q_offsets, k_offsets : numpy.ndarray of shape (batch + 1,)
        Row boundaries.
    k_lo, k_hi : numpy.ndarray of shape (total_q,)
        The keys that each query sees: ``reference.key_ranges``.
    rows : numpy.ndarray of bool, (batch,)
        Which rows.
    work : int
        Multiplications for a query and a key.

    Returns
    -------
    tiles : list of Tile
        What is added up over a row's keys is written by its first tile, where there is one that has them all.
    missed_queries, missed_keys : numpy.ndarray of bool, (batch,)
        Rows that have queries in no tile, or no first tile.
    """
    firsts, others, missed_queries, missed_keys = [], [], rows.copy(), rows.copy()
    for row in np.flatnonzero(rows).tolist():
        keys, blind = (int(k_offsets[row]), int(k_offsets[row + 1])), 0
        blocks = range(int(q_offsets[row]), int(q_offsets[row + 1]), BLOCK)
        for start in reversed(blocks):  # the last queries are those who may see all keys
            stop = min(start + BLOCK, int(q_offsets[row + 1]))
            lo, hi = k_lo[start:stop], k_hi[start:stop]
            seen = np.flatnonzero(hi > lo)
            blind += stop - start - seen.size
            if seen.size:
                first, last = start + int(seen[0]), start + int(seen[-1]) + 1
                span, end = int(lo[seen].min()), int(hi[seen].max())
                covers = missed_keys[row] and (span, end) == keys
                missed_keys[row] &= not covers
                (firsts if covers else others).append((first, last - first, span, end - span))
        missed_queries[row] = blind > 0
    return [*_tiles(firsts, work, first=True), *_tiles(others, work, first=False)], missed_queries, missed_keys


def key_ranges(
    q_offsets: np.ndarray, k_offsets: np.ndarray, *, causal: bool, window: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``reference.key_ranges`` of offsets in host memory."""
    row = np.repeat(np.arange(q_offsets.shape[0] - 1, dtype=q_offsets.dtype), np.diff(q_offsets))
    return reference.key_ranges(np, q_offsets, k_offsets, row, causal=causal, window=window)


def _tiles(stretches: list[tuple[int, int, int, int]], work: int, *, first: bool) -> list[Tile]:
    """Make a tile of each long stretch, and tiles of several short ones of about the same lengths."""
    tiles = [Tile((q,), (lq,), (k,), (lk,), first) for q, lq, k, lk in stretches if lq * lk * work >= SHORT]
    short = sorted((lk, lq, q, k) for q, lq, k, lk in stretches if lq * lk * work < SHORT)
    while short:
        done, widest, count = 0, 0, 0
        for lk, lq, _, _ in short:
            done, widest = done + lq * lk, max(widest, lq)
            rectangle = (count + 1) * widest * lk
            if count and (rectangle > WASTE * done or rectangle * work > MOST):
                break
            count += 1
        k_lengths, q_lengths, q_starts, k_starts = zip(*short[:count], strict=True)
        tiles.append(Tile(q_starts, q_lengths, k_starts, k_lengths, first))
        short = short[count:]
    return tiles
