"""Rotary position embedding."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace
from scree_core.reference.repeat_rows import repeat_rows, repeat_rows_vjp


def varlen_rope(xp: Namespace, x: Any, cos: Any, sin: Any, positions: Any, *, interleaved: bool) -> Any:
    """Rotate pairs of the last axis by the angles of each element's position.

    Parameters
    ----------
    x : array of shape (total, ..., head_dim)
        Elements.
    cos, sin : array of shape (max_position, r)
        Tables; the first ``2 * r <= head_dim`` features are rotated, the rest pass through.
    positions : array of int of shape (total,)
        Position of each element, below ``max_position``.
    interleaved : bool
        Whether neighbours are a pair, ``(x[2 i], x[2 i + 1])`` as in RoFormer and GPT-J, or halves are,
        ``(x[i], x[i + r])`` as in GPT-NeoX and Llama.

    Returns
    -------
    array, shape and dtype of x

    Notes
    -----
    ``y1 = x1 cos - x2 sin;  y2 = x2 cos + x1 sin`` for each pair. Su et al. 2021 (RoFormer), eq. 34. O(x.size).

    Examples
    --------
    >>> import numpy as np
    >>> quarter_turn = {"cos": np.array([[1.0], [0.0]]), "sin": np.array([[0.0], [1.0]])}
    >>> x = np.array([[1.0, 2.0], [1.0, 2.0]])
    >>> varlen_rope(np, x, **quarter_turn, positions=np.array([0, 1]), interleaved=True)
    array([[ 1.,  2.],
           [-2.,  1.]])
    """
    x1, x2, rest = _split_pairs(x, cos.shape[-1], interleaved)
    c, s = _at_positions(xp, cos, x, positions), _at_positions(xp, sin, x, positions)
    return _join_pairs(xp, x1 * c - x2 * s, x2 * c + x1 * s, rest, interleaved)


def varlen_rope_vjp(
    xp: Namespace, d_out: Any, x: Any, cos: Any, sin: Any, positions: Any, *, interleaved: bool
) -> tuple[Any, Any, Any]:
    """Return the gradients of ``varlen_rope`` with respect to x, cos and sin.

    Parameters
    ----------
    d_out : array of shape (total, ..., head_dim)
        Cotangent of the output.
    x, cos, sin, positions, interleaved
        As given to ``varlen_rope``.

    Returns
    -------
    dx : array, shape of x
    d_cos, d_sin : array of shape (max_position, r)
        Summed over the elements at each position.

    Notes
    -----
    ``dx`` is the rotation back; for each pair:

        dx1 = d1 cos + d2 sin;  dx2 = d2 cos - d1 sin
        d_cos = d1 x1 + d2 x2;  d_sin = d2 x1 - d1 x2      summed over the axes between the first and the last
    """
    dx = varlen_rope(xp, d_out, cos, -sin, positions, interleaved=interleaved)
    x1, x2, _ = _split_pairs(x, cos.shape[-1], interleaved)
    d1, d2, _ = _split_pairs(d_out, cos.shape[-1], interleaved)
    middle = tuple(range(1, x.ndim - 1))
    d_c, d_s = d1 * x1 + d2 * x2, d2 * x1 - d1 * x2
    if middle:
        d_c, d_s = xp.sum(d_c, axis=middle), xp.sum(d_s, axis=middle)
    return dx, *repeat_rows_vjp(xp, d_c, cos, positions), *repeat_rows_vjp(xp, d_s, sin, positions)


def _at_positions(xp: Namespace, table: Any, x: Any, positions: Any) -> Any:
    """Return each element's line of the table, ``(total, 1, ..., 1, r)``."""
    return xp.reshape(repeat_rows(xp, table, positions), (x.shape[0], *(1,) * (x.ndim - 2), table.shape[-1]))


def _split_pairs(x: Any, r: int, interleaved: bool) -> tuple[Any, Any, Any]:
    """Return the first and the second of each pair, and what isn't rotated."""
    rest = x[..., 2 * r :]
    if interleaved:
        return x[..., 0 : 2 * r : 2], x[..., 1 : 2 * r : 2], rest
    return x[..., :r], x[..., r : 2 * r], rest


def _join_pairs(xp: Namespace, x1: Any, x2: Any, rest: Any, interleaved: bool) -> Any:
    """Undo ``_split_pairs``."""
    if interleaved:
        pairs = xp.reshape(xp.stack([x1, x2], axis=-1), (*x1.shape[:-1], 2 * x1.shape[-1]))
        return xp.concat([pairs, rest], axis=-1)
    return xp.concat([x1, x2, rest], axis=-1)
