"""Rows laid out on rectangles, one for each group of rows of similar length, and gathered back.

MLX computes on rectangles; one for all rows would mostly hold padding. Rows whose lengths differ by little share
one, so that padding adds no more than a quarter to the work. Where offsets have no values (under
``mx.compile``, as arguments) there is a single rectangle, as wide as the layout's ``max_length``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from scree_core.errors import UnsupportedError
from scree_core.layout import Layout
from scree_mlx.moving import Way, move
from scree_mlx.namespace import take
from scree_mlx.segments import segment_ids

HostOffsets = Callable[[Layout[mx.array]], np.ndarray]
"""Reads a layout's offsets; raises ``UnsupportedError`` where they have no values."""

MOST_WORK = 1.25
"""Work on a rectangle, padding included, over work on its rows alone."""


class Rectangle(NamedTuple):
    """Some rows side by side, padded on the right."""

    rows: int
    width: int
    lengths: mx.array
    """Elements of each row, int32 ``(rows,)``."""
    full: bool
    """Whether no row is known to be shorter than ``width``."""


class Rectangles(NamedTuple):
    """The way from packed elements to the cells of rectangles, counted through row by row, one after another."""

    rectangles: list[Rectangle]
    """None of them empty; none at all where there are no elements."""
    way: Way

    def spread(self, x: mx.array) -> list[mx.array]:
        """Lay out ``(total, *features)`` as one ``(rows, width, *features)`` for each rectangle, 0 in empty cells."""
        cells = move(x, self.way)
        cuts = np.cumsum([r.rows * r.width for r in self.rectangles])[:-1].tolist()
        parts = mx.split(cells, cuts) if cuts else [cells]
        return [part.reshape(r.rows, r.width, *x.shape[1:]) for part, r in zip(parts, self.rectangles, strict=True)]

    def collect(self, parts: list[mx.array], fill: mx.array) -> mx.array:
        """Gather what was computed on the rectangles ``(rows, width, *features)`` to ``(total, *features)``.

        ``fill`` ``()`` is for the elements on no rectangle. There must be a rectangle.
        """
        flat = [part.reshape(-1, *part.shape[2:]) for part in parts]
        return move(flat[0] if len(flat) == 1 else mx.concatenate(flat), self.way.back, fill)


def grouped(*lengths: np.ndarray) -> list[np.ndarray]:
    """Sort rows into groups to be computed together.

    Parameters
    ----------
    *lengths : int arrays of shape (batch,)
        Row lengths of each operand; a row's work is their product.

    Returns
    -------
    list of int arrays
        Row numbers of each group. Rows with a length of 0 are in none.

    Notes
    -----
    Greedy, from long to short: a row joins the last group unless the rectangle's work, the product of the largest
    lengths for each of its rows, would exceed ``MOST_WORK`` times that of its rows.
    """
    sizes = np.stack(lengths, axis=1).astype(np.int64)
    busy = np.flatnonzero(sizes.all(axis=1))
    # By length within a quarter of an octave for all operands but the last, exactly for that.
    rough = [-np.floor(4 * np.log2(size)) for size in sizes[busy, :-1].T]
    order = busy[np.lexsort([-sizes[busy, -1], *rough])]
    groups: list[list[int]] = []
    work, widest = 0, [0] * len(lengths)
    for row, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        wider, own = list(map(max, widest, size)), math.prod(size)
        if groups and math.prod(wider) * (len(groups[-1]) + 1) <= MOST_WORK * (work + own):
            groups[-1].append(row)
            work, widest = work + own, wider
        else:
            groups.append([row])
            work, widest = own, size
    return [np.array(group) for group in groups]


def of_layout(layout: Layout[mx.array], total: int, host_offsets: HostOffsets, op: str) -> Rectangles:
    """Lay out the rows of a layout: in groups if the offsets can be read, which is then kept with it."""
    try:
        offsets = host_offsets(layout)
    except UnsupportedError:
        return on_device(layout, total, op)
    return layout.derived(("rectangles", total), lambda: on_host(offsets, grouped(np.diff(offsets)), total))


def on_host(offsets: np.ndarray, groups: list[np.ndarray], total: int) -> Rectangles:
    """Lay out groups of rows, given the offsets' values; an element past the last row lies on no rectangle."""
    lengths = np.diff(offsets)
    widths = [int(lengths[group].max(initial=0)) for group in groups]
    cells = sum(width * len(group) for width, group in zip(widths, groups, strict=True))
    destination = np.full(total, cells, np.int32)
    sources, first = [np.zeros(0, np.int32)], 0
    for group, width in zip(groups, widths, strict=True):
        column = np.arange(width)
        real = column < lengths[group, None]
        elements = offsets[group, None] + column
        sources.append(np.where(real, elements, total).reshape(-1))
        destination[elements[real]] = first + np.flatnonzero(real)
        first += real.size
    rectangles = [
        Rectangle(len(group), width, mx.array(lengths[group].astype(np.int32)), bool((lengths[group] == width).all()))
        for group, width in zip(groups, widths, strict=True)
    ]
    source = np.concatenate(sources).astype(np.int32)
    fills, drops = bool((source == total).any()), bool((destination == cells).any())
    # From NumPy they are constants, under a transformation too, and may be kept with the layout.
    return Rectangles(rectangles, Way(mx.array(source), mx.array(destination), fills, drops))


def on_device(layout: Layout[mx.array], total: int, op: str) -> Rectangles:
    """Lay out all rows on one rectangle, without a value of the offsets.

    Raises
    ------
    UnsupportedError
        The layout has no ``max_length``.
    """
    width = layout.max_length
    if width is None:
        raise UnsupportedError(
            f"{op} under mx.compile or mx.vmap needs a bound of the row lengths: pass max_length where the Array is "
            "made (scree.Array, scree.from_cu_seqlens, scree.bucket), or close over an Array made outside"
        )
    rectangle = Rectangle(layout.batch_size, width, layout.lengths.astype(mx.int32), full=False)
    way = one_rectangle(layout, total, width, side="right")
    return Rectangles([rectangle] if layout.batch_size and width else [], way)


def one_rectangle(layout: Layout[mx.array], total: int, width: int, *, side: str) -> Way:
    """Return the way of all rows to one rectangle of that width, padded on one side. Reads no offsets.

    In int32, which counts the elements of every array: MLX has no longer axes.
    """
    batch, offsets = layout.batch_size, layout.offsets.astype(mx.int32)
    start, stop = offsets[:-1, None], offsets[1:, None]
    first = start if side == "right" else stop - width
    element = first + mx.arange(width, dtype=mx.int32)
    real = (element >= start) & (element < stop)
    source = mx.where(real, element, total).reshape(-1)
    ids = segment_ids(offsets, total)
    cell = ids * width + mx.arange(total, dtype=mx.int32) - take(first[:, 0], ids, axis=0)
    return Way(source, mx.where(ids < batch, cell, batch * width), fills=True, drops=layout.tail)
