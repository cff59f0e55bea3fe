"""A set of whole numbers that finds its smallest at or above a given one."""

from __future__ import annotations

BITS = 9
"""Of 512 numbers each a word says which are there: shifting a Python integer that long costs as much as a short one."""
MASK = 2**BITS - 1


class NumberSet:
    """Whole numbers below ``size``, as words of bits; above them words that say which words aren't 0, and so on.

    Every operation takes a few integer operations for each level: two of them up to 262,144, three up to 134 million.
    Memory grows with the numbers that are in it, not with ``size``.
    """

    def __init__(self, size: int) -> None:
        levels = 1
        while size > 2 ** (BITS * levels):
            levels += 1
        self._levels: list[dict[int, int]] = [{} for _ in range(levels)]

    def add(self, number: int) -> None:
        """Put a number in that isn't there."""
        for words in self._levels:
            number, bit = number >> BITS, number & MASK
            word = words.get(number, 0)
            words[number] = word | 1 << bit
            if word:
                return

    def remove(self, number: int) -> None:
        """Take a number out that is there."""
        for words in self._levels:
            number, bit = number >> BITS, number & MASK
            word = words[number] ^ 1 << bit
            if word:
                words[number] = word
                return
            del words[number]

    def at_least(self, number: int) -> int:
        """Return the smallest that is ``number`` or more; -1 where there is none."""
        depth = 0
        for words in self._levels:
            word = words.get(number >> BITS, 0) >> (number & MASK)
            if word:
                number += (word & -word).bit_length() - 1
                break
            number = (number >> BITS) + 1
            depth += 1
        else:
            return -1
        for words in self._levels[depth - 1 :: -1] if depth else ():
            word = words[number]
            number = number << BITS | (word & -word).bit_length() - 1
        return number
