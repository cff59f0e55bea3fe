"""Rotary position embedding, with positions that restart in each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.arguments import check_array, check_floating, front, layout_of, restore
from scree_core.array import Array
from scree_core.array.elementwise import check_same_layout
from scree_core.dispatch import Call, run
from scree_core.errors import ShapeError
from scree_core.protocols import ArrayT
from scree_core.tail import without_tail


def varlen_rope(
    x: Array[ArrayT],
    cos: ArrayT,
    sin: ArrayT,
    *,
    positions: ArrayT | Array[ArrayT] | None = None,
    interleaved: bool = False,
    backend: str | None = None,
) -> Array[ArrayT]:
    """Rotate pairs of features by the angle of their element's position.

    Parameters
    ----------
    x : Array with values (total, ..., head_dim)
        Floating point, such as queries or keys ``(total, heads, head_dim)``.
    cos, sin : array of shape (max_position, rotary_dim / 2)
        Tables of the angles. Only the first ``rotary_dim <= head_dim`` features rotate, the rest pass.
    positions : int array or Array of shape (total,), optional
        Row of the tables for each element; by default its index within its row of the batch.
    interleaved : bool, default False
        Pair neighbours ``(2i, 2i + 1)`` as in GPT-J, instead of halves ``(i, i + rotary_dim / 2)`` as in
        Llama and GPT-NeoX.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array
        On the layout of x, in its dtype.

    Raises
    ------
    ShapeError
        Tables, positions or dtypes don't fit, or a position lies beyond the tables. Positions that only
        a device knows aren't checked: there is no sync.

    Notes
    -----
    ``y1 = x1 * cos - x2 * sin`` and ``y2 = x2 * cos + x1 * sin`` for each pair (Su et al. 2021,
    eq. 34), computed in float32 or wider.

    Examples
    --------
    >>> import numpy as np, scree
    >>> angles = np.arange(4)[:, None] * np.array([np.pi / 2])
    >>> x = scree.from_lengths(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), [1, 2])
    >>> scree.varlen_rope(x, np.cos(angles), np.sin(angles)).values.round(3) + 0.0
    array([[1., 0.],
           [1., 0.],
           [0., 1.]])
    """
    return restore(x, run(prepare(x, cos, sin, positions=positions, interleaved=interleaved), backend))


def prepare(x: Array[Any], cos: Any, sin: Any, *, positions: Any = None, interleaved: bool = False) -> Call:
    """Check the arguments."""
    check_array(x, "x")
    check_floating(x, "varlen_rope", "x")
    if x.ndim < 2 or x.ragged_dim == x.ndim - 1:
        raise ShapeError(f"varlen_rope needs values (total, ..., head_dim), got {tuple(x.values.shape)}")
    _check_tables(x, cos, sin)
    arrays = {"x": x.values, "cos": cos, "sin": sin}
    if positions is None:
        longest = x.layout.longest
        if longest is not None and longest > cos.shape[0]:
            raise ShapeError(f"cos and sin hold {cos.shape[0]} positions, the longest row needs {longest}")
    else:
        positions = _checked_positions(x, positions, cos.shape[0])
        arrays["positions"] = positions
        if x.backend.owns(positions):
            positions = without_tail(x.backend, positions, x.layout)
    args = (front(x), cos, sin, layout_of(x), positions)
    return Call("varlen_rope", args, {"interleaved": bool(interleaved)}, arrays)


def _check_tables(x: Array[Any], cos: Any, sin: Any) -> None:
    shapes = tuple(getattr(cos, "shape", ())), tuple(getattr(sin, "shape", ()))
    if len(shapes[0]) != 2 or shapes[0] != shapes[1]:
        raise ShapeError(
            f"cos and sin must have one shape (max_position, rotary_dim / 2), got {shapes[0]} and {shapes[1]}"
        )
    head_dim, half = x.values.shape[-1], shapes[0][1]
    if half == head_dim and head_dim > 0:
        raise ShapeError(
            f"cos and sin have {half} columns, one for each feature; pass one for each pair, as "
            f"cos[:, :{head_dim // 2}] (tables made for rotate_half hold every angle twice)"
        )
    if 2 * half > head_dim:
        raise ShapeError(f"cos and sin have {half} columns, but head_dim {head_dim} has {head_dim // 2} pairs")


def _checked_positions(x: Array[Any], positions: Any, max_position: int) -> Any:
    if isinstance(positions, Array):
        check_same_layout(x, positions, "x and positions")
        positions = positions.values
    if tuple(getattr(positions, "shape", ())) != (x.total_length,):
        raise ShapeError(
            f"positions must have shape (total,) = ({x.total_length},), "
            f"got {getattr(positions, 'shape', type(positions).__name__)}"
        )
    if not x.backend.owns(positions):
        return positions  # dispatch will name the two libraries
    if not x.backend.dtype_name(positions).startswith(("int", "uint")):
        raise ShapeError(f"positions must be integers, got {positions.dtype}")
    host = _live(x, x.backend.host_view(positions))
    if host is not None and host.size and not (0 <= host.min() and host.max() < max_position):
        wrong = (host < 0) | (host >= max_position)
        i = int(np.argmax(wrong))
        raise ShapeError(f"positions[{i}] is {host[i]}, but cos and sin hold the positions 0 to {max_position - 1}")
    return positions


def _live(x: Array[Any], host: np.ndarray | None) -> np.ndarray | None:
    """Return the positions to check: none of a tail, and none at all where only a device knows its start."""
    if host is None or not x.layout.tail:
        return host
    return None if x.layout.host is None else host[: int(x.layout.host[-1])]
