"""The type: ``Array`` is values plus a layout."""

from scree_core.array.type import Array, checked_axis

__all__ = ["Array", "checked_axis"]
