"""Elements behind the last offset: kept out of every op, and 0 in every result.

A backend that takes tails gets arrays of the full length whose dead elements are 0, and what it leaves in
those elements is put to 0: shapes depend on no offset, so nothing is read and one compiled program serves
many batches. For any other backend the tail is cut off first and put back afterwards, by offsets on the host.
"""

from __future__ import annotations

from typing import Any

from scree_core.errors import ShapeError
from scree_core.layout import Layout
from scree_core.protocols import Namespace
from scree_core.reference.making import arange_like


def without_tail(backend: Any, values: Any, layout: Layout[Any]) -> Any:
    """Return values, ragged axis first, of which an op may use every element that ``seen`` says there is."""
    if not layout.tail:
        return values
    if backend.takes_tail:
        return _zero_dead(backend, values, layout)
    return values[: int(backend.host_offsets(layout)[-1]), ...]


def seen(backend: Any, layout: Layout[Any]) -> Layout[Any]:
    """Return the layout that an op is to see: without a tail for a backend that takes none."""
    if not layout.tail or backend.takes_tail:
        return layout

    def cut() -> Layout[Any]:
        return layout.without_tail(backend.host_offsets(layout))

    return layout.derived("without_tail", cut) if backend.may_cache(layout.offsets) else cut()


def with_tail(backend: Any, values: Any, layout: Layout[Any], total: int) -> Any:
    """Return an op's result with 0 in the tail: the inverse of ``without_tail``, for ``total`` elements in all."""
    if not layout.tail:
        return values
    if backend.takes_tail:
        return _zero_dead(backend, values, layout)
    return backend.lengthen(values, total)


def lengthened(xp: Namespace, x: Any, total: int) -> Any:
    """Return ``x`` with zeros behind it along the first axis, up to ``total`` elements."""
    if x.shape[0] == total:
        return x
    # The sum of nothing is a zero on the right device.
    one = x[:1, ...] if x.shape[0] else xp.astype(xp.sum(xp.astype(x, xp.float32), axis=0, keepdims=True), x.dtype)
    zeros = xp.zeros_like(xp.broadcast_to(one, (total - x.shape[0], *x.shape[1:])))
    return xp.concat([x, zeros], axis=0)


def with_capacity(backend: Any, x: Any, layout: Layout[Any], capacity: int) -> tuple[Any, Layout[Any]]:
    """Return elements and a layout with a tail up to ``capacity``, if they fit."""
    if x.shape[0] > capacity:
        raise ShapeError(f"capacity={capacity} is too small for {x.shape[0]} elements")
    bounds = {"max_length": layout.max_length, "min_length": layout.min_length, "host": layout.host}
    return backend.lengthen(x, capacity), Layout.trusted(layout.offsets, total=capacity, tail=True, **bounds)


def _zero_dead(backend: Any, values: Any, layout: Layout[Any]) -> Any:
    xp, total = backend.xp, values.shape[0]

    def alive() -> Any:
        return arange_like(xp, total, layout.offsets.dtype, layout.offsets) < layout.offsets[-1]

    mask = xp.reshape(backend._derived(layout, "alive", alive), (total,) + (1,) * (len(values.shape) - 1))
    return xp.where(mask, values, xp.zeros_like(values))
