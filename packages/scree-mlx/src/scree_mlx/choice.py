"""``where`` with a gradient that leaves out what wasn't chosen.

MLX multiplies the cotangent by the condition, so NaN in what wasn't chosen comes through, as 0 * NaN.
"""

from __future__ import annotations

import mlx.core as mx

from scree_mlx.custom_gradient import custom_gradient


def where(condition: mx.array, x: mx.array, y: mx.array) -> mx.array:
    """Return ``x`` where the condition holds, else ``y``; all three broadcast."""
    return _choose(*mx.broadcast_arrays(condition, x, y))


def _choose_vjp(
    primals: tuple[mx.array, mx.array, mx.array], cotangent: mx.array, output: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    condition, x, y = primals
    nothing = mx.zeros_like(cotangent)
    dx, dy = where(condition, cotangent, nothing), where(condition, nothing, cotangent)
    return mx.zeros_like(condition), dx.astype(x.dtype), dy.astype(y.dtype)


@custom_gradient(_choose_vjp)
def _choose(condition: mx.array, x: mx.array, y: mx.array) -> mx.array:
    return mx.where(condition, x, y)
