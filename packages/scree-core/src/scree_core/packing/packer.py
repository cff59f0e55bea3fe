"""Rows that come one after another into bins, with a few of them open at a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any, NamedTuple

from scree_core.errors import ArgumentError
from scree_core.packing.checks import OVER, check_bins, check_whole, check_word, too_long


class Piece(NamedTuple):
    """A part of a row in a bin of a ``Packer``, or all of it."""

    item: Any
    """What was given for the row; without that the number of rows before it."""
    start: int
    """Where in its row it begins; 0 unless the row was split."""
    length: int


@dataclass
class _Open:
    """A bin that isn't final."""

    room: int
    number: int
    pieces: list[Piece]


class Packer:
    """Pack a stream of rows into bins of one size, best fit among a few that are open.

    Parameters
    ----------
    capacity : int
        How many elements a bin can hold.
    over : {"error", "truncate", "split", "drop"}
        What to do with rows longer than ``capacity``, as in ``pack_lengths``.
    open_bins : int, default 64
        How many bins wait for more rows. Where none of them has room, the fullest becomes final. More fill better and
        hold rows back longer.
    max_rows : int, optional
        At most so many pieces in a bin. None is no limit.
    multiple_of : int, default 1
        Each piece takes up its length rounded up to a multiple of this, which ``capacity`` has to be too.

    Attributes
    ----------
    rows : int
        How many rows were added.
    dropped : int
        How many of them were left out with ``over="drop"``.
    lost : int
        How many elements were cut off or left out.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument isn't one of those it may be; the message names it.

    Notes
    -----
    A bin becomes final when it is full, has ``max_rows`` pieces, or has to make place. At most ``open_bins`` are held;
    empty rows take up nothing, so that ``max_rows`` alone bounds how many of them wait. Adding a row takes some
    microseconds.

    Examples
    --------
    >>> import scree
    >>> packer = scree.packing.Packer(8, over="error", open_bins=2)
    >>> for length in [5, 4, 3, 7]:
    ...     for pieces in packer.add(length):
    ...         print([piece.item for piece in pieces])
    [0, 2]
    >>> [[piece.item for piece in pieces] for pieces in packer.flush()]
    [[1], [3]]
    """

    def __init__(
        self, capacity: int, *, over: str, open_bins: int = 64, max_rows: int | None = None, multiple_of: int = 1
    ) -> None:
        self._capacity, self._max_rows, self._multiple_of = check_bins(capacity, max_rows, multiple_of)
        check_word("over", over, OVER)
        self._over, self._open_bins = over, check_whole("open_bins", open_bins, 1)
        self._open: list[_Open] = []  # the fullest first, of equally full ones the oldest
        self._begun = self.rows = self.dropped = self.lost = 0

    def add(self, length: int, item: Any = None) -> list[list[Piece]]:
        """Put a row into a bin.

        Parameters
        ----------
        length : int
            How many elements the row has.
        item : object, optional
            What stands for the row in its bin. None, the default, is how many rows were added before.

        Returns
        -------
        list of list of Piece
            The bins that became final, often none.

        Raises
        ------
        ArgumentError
            The length is negative, or over ``capacity`` with ``over="error"``. Nothing is changed then.
        ArgumentTypeError
            The length isn't a whole number.
        """
        length = check_whole("length", length, 0)
        capacity, kept, lost = self._capacity, length, 0
        if length > capacity and self._over != "split":
            if self._over == "error":
                raise too_long("length", length, capacity)
            kept = capacity if self._over == "truncate" else 0
            lost = length - kept
        item = self.rows if item is None else item
        self.rows += 1
        self.lost += lost
        if lost and not kept:
            self.dropped += 1
            return []
        final = []
        for start in range(0, max(kept, 1), capacity):
            final += self._place(Piece(item, start, min(kept - start, capacity)))
        return final

    def _place(self, piece: Piece) -> list[list[Piece]]:
        size = -(-piece.length // self._multiple_of) * self._multiple_of
        final = []
        at = bisect_left(self._open, size, key=_room)
        if at < len(self._open):
            chosen = self._open.pop(at)
        else:
            chosen = _Open(self._capacity, self._begun, [])
            self._begun += 1
            if size < self._capacity and self._max_rows != 1 and len(self._open) == self._open_bins:
                final.append(self._open.pop(0).pieces)
        chosen.pieces.append(piece)
        chosen.room -= size
        if chosen.room == 0 or len(chosen.pieces) == self._max_rows:
            final.append(chosen.pieces)
        else:
            self._open.insert(bisect_right(self._open, (chosen.room, chosen.number), key=_order), chosen)
        return final

    def flush(self) -> list[list[Piece]]:
        """Return the bins that are still open, the oldest first, and go on with none."""
        rest = [bin.pieces for bin in sorted(self._open, key=_number)]
        self._open = []
        return rest

    def state_dict(self) -> dict[str, Any]:
        """Return all there is to know of this packer, as numbers, strings, lists and the items of open bins."""
        opened = [[bin.room, bin.number, [list(piece) for piece in bin.pieces]] for bin in self._open]
        counts = {"begun": self._begun, "rows": self.rows, "dropped": self.dropped, "lost": self.lost}
        return {"options": self._options(), "open": opened, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another packer was when it gave its ``state_dict``.

        Parameters
        ----------
        state : dict
            What it gave, or that by way of JSON, where tuples among the items become lists.

        Raises
        ------
        ArgumentError
            It is of a packer with other options, or no state of a packer. Nothing is changed then.
        """
        missing = {"options", "open", "begun", "rows", "dropped", "lost"} - set(state)
        if missing:
            raise ArgumentError(f"state has no {sorted(missing)}; give what Packer.state_dict() returned")
        if others := [
            f"{name}={value!r}" for name, value in self._options().items() if state["options"].get(name) != value
        ]:
            raise ArgumentError(
                f"the state is of a packer with other options, {state['options']}, but this one has "
                f"{', '.join(others)}; make it with the same"
            )
        self._open = [
            _Open(room, number, [Piece(*piece) for piece in pieces]) for room, number, pieces in state["open"]
        ]
        self._begun, self.rows, self.dropped, self.lost = (state[n] for n in ("begun", "rows", "dropped", "lost"))

    def _options(self) -> dict[str, Any]:
        names = ("capacity", "over", "open_bins", "max_rows", "multiple_of")
        return {name: getattr(self, f"_{name}") for name in names}

    def __repr__(self) -> str:
        return f"Packer(capacity={self._capacity}, {len(self._open)} of {self._open_bins} bins open, {self.rows} rows)"


def _room(bin: _Open) -> int:
    return bin.room


def _number(bin: _Open) -> int:
    return bin.number


def _order(bin: _Open) -> tuple[int, int]:
    return bin.room, bin.number
