"""First fit decreasing: each piece goes to the first bin that has room."""

from __future__ import annotations

from scree_core.packing.placed import Placed


def first_fit_decreasing(sizes: list[int], counts: list[int], capacity: int, max_rows: int | None) -> Placed:
    """Place ``counts[i]`` pieces of ``sizes[i]``, which decrease and are above 0.

    The first bin with room takes as many pieces of one size as it holds; the result is that of one after another.
    """
    rooms, placed = Rooms(), Placed()
    left: list[int] = []  # how many pieces each bin can still take; only with max_rows
    for size, left_to_place in zip(sizes, counts, strict=True):
        count = left_to_place
        most = capacity // size if max_rows is None else min(capacity // size, max_rows)
        while count:
            b = rooms.first(size)
            if b < 0:
                each = min(most, count)
                run = count // each
                room = capacity - each * size
                if max_rows is not None:
                    left += [max_rows - each] * run
                    room *= each < max_rows
                placed.note(rooms.append(room, run), run, each)
                count -= run * each
                continue
            room = rooms[b]
            each = min(room // size, count)
            room -= each * size
            if max_rows is not None:
                each = min(each, left[b])
                left[b] -= each
                room = (rooms[b] - each * size) * (left[b] > 0)
            rooms[b] = room
            placed.note((b,), 1, each)
            count -= each
    return placed


class Rooms:
    """The room in each bin, and above them in a binary tree the largest of either half."""

    def __init__(self) -> None:
        self._size, self._leaves = 0, 1
        self._tree = [0, 0]

    def __getitem__(self, b: int) -> int:
        return self._tree[self._leaves + b]

    def __setitem__(self, b: int, room: int) -> None:
        tree, i = self._tree, self._leaves + b
        tree[i] = room
        while i > 1:
            other = tree[i ^ 1]
            i >>= 1
            if other > room:
                room = other
            if tree[i] == room:
                return
            tree[i] = room

    def first(self, size: int) -> int:
        """Return the first bin that has room, or -1."""
        tree, leaves = self._tree, self._leaves
        if tree[1] < size:
            return -1
        i = 1
        while i < leaves:
            i += i
            if tree[i] < size:
                i += 1
        return i - leaves

    def append(self, room: int, run: int) -> range:
        """Add ``run`` bins with equal room, and return which they are."""
        new = range(self._size, self._size + run)
        if new.stop > self._leaves:
            rooms = self._tree[self._leaves : self._leaves + self._size]
            while new.stop > self._leaves:
                self._leaves *= 2
            self._tree = [0] * self._leaves + rooms + [0] * (self._leaves - self._size)
            self._renew(0, self._leaves)
        self._tree[self._leaves + new.start : self._leaves + new.stop] = [room] * run
        self._renew(new.start, new.stop)
        self._size = new.stop
        return new

    def _renew(self, start: int, stop: int) -> None:
        tree = self._tree
        low, high = self._leaves + start, self._leaves + stop - 1
        while low > 1:
            low, high = low >> 1, high >> 1
            tree[low : high + 1] = map(max, tree[2 * low : 2 * high + 2 : 2], tree[2 * low + 1 : 2 * high + 2 : 2])
