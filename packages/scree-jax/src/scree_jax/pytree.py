"""``Array`` and ``Layout`` as pytrees, so that jit, grad, vmap and scan take them as arguments and results.

Values and offsets are the leaves. Static, and so part of what a jitted function is compiled for, are
``ragged_dim``, ``tail``, and ``max_length`` if there is a tail: then it is a rounded one, given to ``scree.bucket``
or ``scree.Array``. The exact lengths of one batch stay out, or every batch would be compiled for: without a tail
an Array comes back from ``jax.tree.map``, and arrives in a jitted function, with ``max_length`` None. Then
``scree.to_padded`` reads the offsets, or under jit asks for its ``max_length``; nothing else needs it.

Unflattening checks nothing: leaves may be tracers, ``None`` or plain objects.
"""

from __future__ import annotations

from typing import Any

from jax import tree_util

from scree_core import Array, Layout

VALUES, LAYOUT, OFFSETS = (tree_util.GetAttrKey(name) for name in ("values", "layout", "offsets"))


def register() -> None:
    """Register both types with JAX, once: a second time, as on reloading this package, JAX would raise."""
    probe = Layout.trusted(None)
    if not tree_util.all_leaves([probe]):
        return
    tree_util.register_pytree_with_keys(Layout, _flatten_layout_with_keys, _unflatten_layout, _flatten_layout)
    tree_util.register_pytree_with_keys(Array, _flatten_array_with_keys, _unflatten_array, _flatten_array)


def _flatten_layout(layout: Layout[Any]) -> tuple[tuple[Any], tuple[bool, int | None]]:
    return (layout.offsets,), (layout.tail, layout.max_length if layout.tail else None)


def _flatten_layout_with_keys(layout: Layout[Any]) -> tuple[Any, Any]:
    (offsets,), static = _flatten_layout(layout)
    return ((OFFSETS, offsets),), static


def _unflatten_layout(static: tuple[bool, int | None], children: Any) -> Layout[Any]:
    tail, max_length = static
    (offsets,) = children
    return Layout.trusted(offsets, max_length=max_length, tail=tail)


def _flatten_array(arr: Array[Any]) -> tuple[tuple[Any, Any], int]:
    return (arr.values, arr.layout), arr.ragged_dim


def _flatten_array_with_keys(arr: Array[Any]) -> tuple[Any, Any]:
    return ((VALUES, arr.values), (LAYOUT, arr.layout)), arr.ragged_dim


def _unflatten_array(ragged_dim: int, children: Any) -> Array[Any]:
    values, layout = children
    return Array.trusted(values, layout, ragged_dim)
