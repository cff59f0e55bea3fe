"""Batches of at most so many tokens, equally many on every rank."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from scree_core.errors import ArgumentError, ArgumentTypeError
from scree_core.packing.checks import check_lengths, check_whole, check_word, too_long
from scree_core.packing.pack_lengths import pack_lengths
from scree_core.packing.result import Packing

OVER = ("error", "truncate", "drop")


class TokenBudgetBatchSampler:
    """Choose rows for batches of at most ``max_tokens``, for ``torch.utils.data.DataLoader(batch_sampler=...)``.

    Iterating gives lists of row indices. Tokens are those of packed batches, without padding: the sum of the lengths.

    Parameters
    ----------
    lengths : array_like of shape (rows,), integers
        How many tokens each row of the data set has.
    max_tokens : int
        At most so many in a batch.
    over : {"error", "truncate", "drop"}
        What to do with rows longer than ``max_tokens``: raise; count them as ``max_tokens``, to which whoever reads the
        batch has to cut them; or leave them out. Indices can't say parts of rows, so that there is no ``"split"``.
    algorithm : {"bfd", "ffd", "next"}, default "bfd"
        As in ``pack_lengths``. The first two make the fewest batches, of rows that belong together by their lengths;
        ``"next"`` with ``shuffle`` takes rows in a random order.
    max_rows : int, optional
        At most so many rows in a batch. None is no limit.
    shuffle : bool, default True
        Whether each epoch has other batches in another order. ``"bfd"`` and ``"ffd"`` let rows of one length change
        places, so that there are equally many batches in each epoch; with ``"next"`` their number varies.
    seed : int, default 0
        For another shuffling. The same on all ranks.
    rank, world_size : int, default 0 and 1
        Which process of how many this is: each takes every ``world_size``-th batch.
    drop_last : bool, default False
        Where the batches can't be shared out evenly: False repeats the first ones until they can, so that each row is
        seen at least once; True leaves the last ones out, fewer than ``world_size``. If they can, each row that isn't
        left out by ``over`` is seen exactly once in an epoch.

    Attributes
    ----------
    packing : Packing
        All batches of this epoch, of all ranks, with their fill and the rows that were dropped.

    Raises
    ------
    ArgumentError, ArgumentTypeError, ShapeError
        As ``pack_lengths``; or an argument isn't one of those it may be.

    Notes
    -----
    Each epoch is packed anew when it is first asked for, on every rank alike, without communication: about a second for
    a million rows. Imports no torch.

    Examples
    --------
    >>> import scree
    >>> sampler = scree.packing.TokenBudgetBatchSampler([5, 3, 2, 6], 8, over="error", shuffle=False)
    >>> list(sampler)
    [[3, 2], [0, 1]]
    """

    def __init__(
        self,
        lengths: Any,
        max_tokens: int,
        *,
        over: str,
        algorithm: str = "bfd",
        max_rows: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if over == "split":
            raise ArgumentError("over='split' can't be said by indices; split the rows of the data set, or truncate")
        if algorithm == "concat":
            raise ArgumentError("algorithm='concat' cuts rows, which indices can't say; use 'bfd', 'ffd' or 'next'")
        check_word("algorithm", algorithm, ("bfd", "ffd", "next"))
        check_word("over", over, OVER)
        self._lengths = check_lengths(lengths)
        self._options: dict[str, Any] = {
            "max_tokens": check_whole("max_tokens", max_tokens, 1),
            "over": over,
            "algorithm": algorithm,
            "max_rows": None if max_rows is None else check_whole("max_rows", max_rows, 1),
            "shuffle": _flag("shuffle", shuffle),
            "seed": check_whole("seed", seed, 0),
            "world_size": check_whole("world_size", world_size, 1),
            "drop_last": _flag("drop_last", drop_last),
        }
        self._rank = check_whole("rank", rank, 0)
        if self._rank >= world_size:
            raise ArgumentError(f"rank={rank} must be below world_size={world_size}")
        longest = int(self._lengths.max(initial=0))
        if over == "error" and longest > max_tokens:
            row = int(self._lengths.argmax())
            raise too_long(f"lengths[{row}]", longest, max_tokens, words=OVER, limit="max_tokens")
        self._digest: str | None = None
        self._epoch = self._position = self._resume_at = 0
        self._packed: tuple[int, Packing] | None = None

    @property
    def packing(self) -> Packing:
        """All batches of this epoch, of all ranks."""
        epoch = self._epoch if self._options["shuffle"] else 0
        if self._packed is None or self._packed[0] != epoch:
            self._packed = epoch, self._pack(epoch)
        return self._packed[1]

    def _pack(self, epoch: int) -> Packing:
        lengths, names = self._lengths, ("max_tokens", "algorithm", "over", "max_rows", "shuffle", "seed")
        max_tokens, algorithm, over, max_rows, shuffle, seed = (self._options[name] for name in names)
        if not shuffle:
            return pack_lengths(lengths, max_tokens, algorithm, over=over, max_rows=max_rows)
        order_seed, seed = (int(s) for s in np.random.SeedSequence([seed, epoch]).generate_state(2))
        if algorithm != "next":
            return pack_lengths(lengths, max_tokens, algorithm, over=over, max_rows=max_rows, seed=seed)
        order = np.random.default_rng(order_seed).permutation(lengths.size)
        of = pack_lengths(lengths[order], max_tokens, algorithm, over=over, max_rows=max_rows, seed=seed)
        dropped = np.sort(order[of.dropped])
        return Packing(of.offsets, order[of.indices], of.starts, of.lengths, of.capacity, dropped, of.lost)

    def __len__(self) -> int:
        """Return how many batches each rank gets in this epoch, also where part of it was seen before."""
        batches, ranks = len(self.packing), self._options["world_size"]
        return batches // ranks if self._options["drop_last"] else -(-batches // ranks)

    def __iter__(self) -> Iterator[list[int]]:
        self._position, self._resume_at = self._resume_at, 0
        packing, count = self.packing, len(self)
        while self._position < count:
            batch = (self._position * self._options["world_size"] + self._rank) % len(packing)
            self._position += 1
            yield packing[batch].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffling of an epoch, before iterating; another epoch than the last begins at its start.

        Parameters
        ----------
        epoch : int
            At least 0. The same on all ranks.
        """
        epoch = check_whole("epoch", epoch, 0)
        if epoch != self._epoch:
            self._epoch, self._position, self._resume_at = epoch, 0, 0

    def state_dict(self, position: int | None = None) -> dict[str, Any]:
        """Return where this rank is, as numbers and strings; the same for all ranks after equally many batches.

        Parameters
        ----------
        position : int, optional
            How many batches of this epoch are done. None, the default, is how many were handed out. A ``DataLoader``
            with workers asks for batches ahead, so that there it has to be given.

        Returns
        -------
        dict

        Raises
        ------
        ArgumentError
            ``position`` is more than the batches of this epoch.
        """
        done = self._position if position is None else check_whole("position", position, 0)
        if done > len(self):
            raise ArgumentError(f"position={done} is more than the {len(self)} batches of epoch {self._epoch}")
        return {"epoch": self._epoch, "position": done, "lengths": self._sha256(), "options": dict(self._options)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a sampler of the same data and options was: the next iteration begins behind what it had done.

        Parameters
        ----------
        state : dict
            What ``state_dict`` returned, on any rank.

        Raises
        ------
        ArgumentError
            The lengths or the options are others, or it is no state of a sampler. Nothing is changed then.
        """
        missing = {"epoch", "position", "lengths", "options"} - set(state)
        if missing:
            raise ArgumentError(f"state has no {sorted(missing)}; give what state_dict() returned")
        for name, value in self._options.items():
            if state["options"].get(name) != value:
                raise ArgumentError(
                    f"the state is of a sampler with {name}={state['options'].get(name)!r}, this one has {value!r}: "
                    "its batches would be others; make it with the same options"
                )
        if state["lengths"] != self._sha256():
            raise ArgumentError("the state is of other lengths: its batches would be others; give the same data set")
        epoch, position = check_whole("epoch", state["epoch"], 0), check_whole("position", state["position"], 0)
        self._epoch, self._position, self._resume_at = epoch, position, position

    def _sha256(self) -> str:
        if self._digest is None:
            self._digest = hashlib.sha256(self._lengths.astype("<i8").tobytes()).hexdigest()
        return self._digest


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be True or False, got {value!r}")
    return value
