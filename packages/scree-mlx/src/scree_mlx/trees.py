"""Trees of arguments and results: tuples, lists, dicts and named tuples, with Arrays and anything else as leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scree_core.errors import ArgumentError


def map_tree(fn: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Return a tree of ``fn(leaf, *other_leaves)``.

    Parameters
    ----------
    fn : callable
    tree : tree
        Gives the result its structure.
    *others : trees
        Of the same structure, or ending earlier: what ends is every leaf's below.

    Raises
    ------
    ArgumentError
        A tree is of another structure.
    """
    if isinstance(tree, dict):
        return {
            key: map_tree(fn, value, *(_child(other, dict, key, tree) for other in others))
            for key, value in tree.items()
        }
    if isinstance(tree, (list, tuple)):
        items = [
            map_tree(fn, value, *(_child(other, (list, tuple), i, tree) for other in others))
            for i, value in enumerate(tree)
        ]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return fn(tree, *others)


def _child(other: Any, kind: Any, key: Any, tree: Any) -> Any:
    if not isinstance(other, (dict, list, tuple)):
        return other
    if not isinstance(other, kind) or len(other) != len(tree) or (isinstance(other, dict) and key not in other):
        raise ArgumentError(f"{other!r} doesn't have the structure of its {type(tree).__name__} of {len(tree)}")
    return other[key]
