"""Elements moved to other places, with a gradient that moves them back."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from scree_mlx.custom_gradient import custom_gradient
from scree_mlx.namespace import take


class Way(NamedTuple):
    """Where elements go; none goes to two places."""

    source: mx.array
    """The element for each place, int32 ``(places,)``; ``count`` for none."""
    destination: mx.array
    """The place of each element, int32 ``(count,)``; ``places`` for none."""
    fills: bool
    """Whether a place may be without an element."""
    drops: bool
    """Whether an element may be without a place."""

    @property
    def back(self) -> Way:
        """The way back."""
        return Way(self.destination, self.source, self.drops, self.fills)


def move(x: mx.array, way: Way, fill: mx.array | None = None) -> mx.array:
    """Return ``(places, *features)`` from ``x``, which is ``(count, *features)``.

    Parameters
    ----------
    x : array
    way : Way
    fill : array of shape (), optional
        What a place without an element holds, in the dtype of ``x``; by default 0.

    Notes
    -----
    One gather, and a copy of ``x`` if places are to be filled: they take one more element that is put behind it,
    where filling them afterwards would be a pass over all places. The gradient is the same way back; MLX's own, a
    scatter, takes 30 times as long on a CPU. Under ``mx.vmap`` it is MLX's own.
    """

    def back(primals: tuple[mx.array, ...], cotangent: mx.array, output: mx.array) -> tuple[mx.array, ...]:
        _, *others = primals
        return move(cotangent, way.back), *(mx.zeros_like(other) for other in others)

    @custom_gradient(back)
    def along(x: mx.array, source: mx.array, fill: mx.array) -> mx.array:
        if way.fills:
            x = mx.concatenate([x, mx.broadcast_to(fill, (1, *x.shape[1:]))])
        return take(x, source, axis=0)

    return along(x, way.source, mx.zeros((), dtype=x.dtype) if fill is None else fill)


def _gather_vjp(primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array) -> tuple[mx.array, mx.array]:
    x, index = primals
    wide = cotangent if cotangent.dtype == mx.float64 else cotangent.astype(mx.float32)
    added = mx.zeros(x.shape, dtype=wide.dtype)
    if x.size and cotangent.size:
        added = added.at[mx.clip(index, 0, x.shape[0] - 1)].add(wide)
    return added.astype(x.dtype), mx.zeros_like(index)


@custom_gradient(_gather_vjp)
def gather(x: mx.array, index: mx.array) -> mx.array:
    """Return ``x[index]`` along the first axis; elements may be taken many times, and their gradients are added up.

    Notes
    -----
    Halves are added up in float32, where MLX by itself would add in their own dtype: 4,096 ones give 256 in
    bfloat16.
    """
    return take(x, index, axis=0)
