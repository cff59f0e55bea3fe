"""Best fit decreasing: each piece goes where it leaves the least room."""

from __future__ import annotations

from scree_core.packing.number_set import NumberSet
from scree_core.packing.placed import Placed


def best_fit_decreasing(sizes: list[int], counts: list[int], capacity: int, max_rows: int | None) -> Placed:
    """Place ``counts[i]`` pieces of ``sizes[i]``, which decrease and are above 0.

    Bins with equal room are alike, so they are kept together, and all pieces of one size that go to alike bins are
    placed at once. A bin with the least room that holds a piece has the least room after it too, so that it takes as
    many as it holds; the result is that of one piece after another.

    With ``max_rows`` bins are alike if they can also take equally many pieces more; of those with equal room the ones
    that can take the fewest come first.
    """
    places = max_rows or 1
    bins = 0
    alike: dict[int, list[int]] = {}  # room * places + pieces that they can take - 1 -> bins
    keys = NumberSet((capacity + 1) * places)
    placed = Placed()
    smallest = sizes[-1] if sizes else 0
    for size, left_to_place in zip(sizes, counts, strict=True):
        count = left_to_place
        while count:
            key = keys.at_least(size * places)
            room, left = (capacity, places) if key < 0 else (key // places, key % places + 1)
            each = min(room // size, count)
            if max_rows is not None:
                each = min(each, left)
                left -= each
            if key < 0:
                run = count // each
                taken = list(range(bins, bins + run))
                bins += run
            else:
                found = alike[key]
                run = min(len(found), count // each)
                if run == len(found):
                    taken = found
                    del alike[key]
                    keys.remove(key)
                else:
                    taken = found[-run:]
                    del found[-run:]
            placed.note(taken, run, each)
            count -= run * each
            room -= each * size
            if room >= smallest and left > 0:
                key = room * places + left - 1
                if key in alike:
                    alike[key] += taken
                else:
                    alike[key] = taken
                    keys.add(key)
    return placed
