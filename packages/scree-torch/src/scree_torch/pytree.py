"""``Array`` and ``Layout`` as pytrees, so that torch.export, torch.func and tree_map take them apart and back.

Values and offsets are the leaves. Bounds of lengths aren't part of the structure: an exported program takes batches
of any lengths, and two Arrays have the same structure whatever their rows. But what is known of offsets comes
back with the same offsets: ``tree_map`` over an Array that leaves the offsets alone gives it its own layout.
Unflattening checks nothing: leaves may be tracers, numbers or ``None``.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch.utils import _pytree as pytree

from scree_core import Array, Layout


class LayoutContext:
    """What a layout leaves behind when it is taken apart: equal to any other of its kind with the same tail.

    Parameters
    ----------
    tail : bool
        Whether elements may follow the last row.
    layout : Layout, optional
        Where it came from; remembered as long as somebody else does.
    """

    def __init__(self, tail: bool, layout: Layout[Any] | None = None) -> None:
        self.tail = tail
        self._layout = (lambda: None) if layout is None else weakref.ref(layout)

    def rebuild(self, offsets: Any) -> Layout[Any]:
        """Return the layout that has these offsets; the one it came from, if they are its own."""
        known = self._layout()
        if known is not None and known.offsets is offsets:
            return known
        return Layout.trusted(offsets, tail=self.tail)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LayoutContext) and self.tail == other.tail

    def __hash__(self) -> int:
        return hash((LayoutContext, self.tail))

    def __repr__(self) -> str:
        return f"LayoutContext(tail={self.tail})"

    def __reduce__(self) -> Any:
        return LayoutContext, (self.tail,)


def register() -> None:
    """Register both types with PyTorch, once: a second time, as on reloading this package, it would raise."""
    probe = Layout.trusted(None)
    if pytree.tree_leaves(probe)[0] is probe:
        pytree.register_pytree_node(
            Layout,
            _flatten_layout,
            _unflatten_layout,
            serialized_type_name="scree.Layout",
            to_dumpable_context=lambda context: context.tail,
            from_dumpable_context=LayoutContext,
            flatten_with_keys_fn=_flatten_layout_with_keys,
        )
        pytree.register_pytree_node(
            Array,
            _flatten_array,
            _unflatten_array,
            serialized_type_name="scree.Array",
            flatten_with_keys_fn=_flatten_array_with_keys,
        )


def _flatten_layout(layout: Layout[Any]) -> tuple[list[Any], LayoutContext]:
    return [layout.offsets], LayoutContext(layout.tail, layout)


def _flatten_layout_with_keys(layout: Layout[Any]) -> tuple[list[Any], LayoutContext]:
    return [(pytree.GetAttrKey("offsets"), layout.offsets)], LayoutContext(layout.tail, layout)


def _unflatten_layout(leaves: Any, context: LayoutContext) -> Layout[Any]:
    (offsets,) = leaves
    return context.rebuild(offsets)


def _flatten_array(arr: Array[Any]) -> tuple[list[Any], int]:
    return [arr.values, arr.layout], arr.ragged_dim


def _flatten_array_with_keys(arr: Array[Any]) -> tuple[list[Any], int]:
    keyed = [(pytree.GetAttrKey("values"), arr.values), (pytree.GetAttrKey("layout"), arr.layout)]
    return keyed, arr.ragged_dim


def _unflatten_array(leaves: Any, ragged_dim: int) -> Array[Any]:
    values, layout = leaves
    return Array.trusted(values, layout, ragged_dim)
