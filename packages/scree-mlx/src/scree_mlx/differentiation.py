"""``mx.grad`` and ``mx.value_and_grad`` for functions of ``scree.Array``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from scree_core.array import Array
from scree_core.errors import ArgumentTypeError
from scree_mlx.trees import map_tree


def grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] | None = None, argnames: str | Sequence[str] = ()
) -> Callable[..., Any]:
    """Return a function that computes the gradient of ``fn``, as ``mx.grad`` does.

    Parameters
    ----------
    fn : callable
        Returns a scalar, or a tuple of a scalar and anything more.
    argnums, argnames : int or str, or several, optional
        The arguments to differentiate by, by default the first: trees of floating-point arrays and Arrays.

    Returns
    -------
    callable
        Takes what ``fn`` takes. The gradient by an Array is an Array of gradients on the same layout.

    Raises
    ------
    ArgumentTypeError
        When called: an Array to differentiate by holds integers.

    Examples
    --------
    >>> import mlx.core as mx, scree, scree_mlx
    >>> x = scree.from_lengths(mx.array([1.0, 2.0, 4.0]), [1, 2])
    >>> scree_mlx.grad(lambda x: (x * x).values.sum())(x).values
    array([2, 4, 8], dtype=float32)
    """
    both = value_and_grad(fn, argnums, argnames)
    return functools.wraps(fn)(lambda *args, **kwargs: both(*args, **kwargs)[1])


def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] | None = None, argnames: str | Sequence[str] = ()
) -> Callable[..., Any]:
    """Return a function that computes the value and the gradient of ``fn``, as ``mx.value_and_grad`` does.

    Parameters
    ----------
    fn : callable
        Returns a scalar, or a tuple of a scalar and anything more, Arrays too.
    argnums, argnames
        As for ``grad``.

    Returns
    -------
    callable
        Takes what ``fn`` takes, and returns what it returns and the gradient, in the structure of
        ``mx.value_and_grad``.

    Raises
    ------
    ArgumentTypeError
        When called: an Array to differentiate by holds integers.
    """
    names = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    if argnums is None and not names:
        argnums = 0
    numbers = () if argnums is None else (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        def of_values(*raw: Any, **raw_named: Any) -> Any:
            full = (_with_values(args[i], a) if i in numbers else a for i, a in enumerate(raw))
            named = {name: _with_values(kwargs[name], a) if name in names else a for name, a in raw_named.items()}
            return fn(*full, **named)

        raw = [_values(a) if i in numbers else a for i, a in enumerate(args)]
        raw_named = {name: _values(a) if name in names else a for name, a in kwargs.items()}
        value, found = mx.value_and_grad(of_values, argnums, names)(*raw, **raw_named)
        by_position, by_name = found if names else (found, {})
        if len(numbers) == 1:
            by_position = _with_values(args[numbers[0]], by_position)
        elif numbers:
            by_position = tuple(_with_values(args[i], g) for i, g in zip(numbers, by_position, strict=True))
        by_name = {name: _with_values(kwargs[name], g) for name, g in by_name.items()}
        return value, (by_position, by_name) if names else by_position

    return wrapped


def _values(tree: Any) -> Any:
    """Replace each Array by its values."""

    def values(leaf: Any) -> Any:
        if not isinstance(leaf, Array):
            return leaf
        if not mx.issubdtype(leaf.dtype, mx.floating):
            raise ArgumentTypeError(
                f'there is no gradient by an Array of {leaf.dtype}: cast it, x.astype("float32"), or name other '
                "arguments with argnums or argnames"
            )
        return leaf.values

    return map_tree(values, tree)


def _with_values(tree: Any, values: Any) -> Any:
    """Put other values, or gradients by them, in place of those of each Array."""
    return map_tree(
        lambda leaf, other: Array.trusted(other, leaf.layout, leaf.ragged_dim) if isinstance(leaf, Array) else other,
        tree,
        values,
    )
