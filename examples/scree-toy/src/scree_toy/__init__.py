"""A complete scree backend for an array type of our own, in one module.

``ToyArray`` stands for any array library: it has a shape, a dtype, operators and slicing. ``ToyBackend`` tells
scree how to use it; the four methods marked "required" are enough for every op, and one op shows how to be
faster than the default.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core import Backend, Layout


class ToyArray(np.lib.mixins.NDArrayOperatorsMixin):
    """The array library: a box around a NumPy array."""

    def __init__(self, host: np.ndarray) -> None:
        self.host = np.asarray(host)

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    nbytes = property(lambda self: self.host.nbytes)

    def __getitem__(self, index: Any) -> ToyArray:
        return ToyArray(self.host[index])

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or not all(isinstance(x, (ToyArray, int, float)) for x in inputs):
            return NotImplemented
        return ToyArray(ufunc(*map(unboxed, inputs), **kwargs))


def unboxed(x: Any) -> Any:
    """Return the NumPy array in a box, also inside lists and tuples."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(unboxed, x))
    return x.host if isinstance(x, ToyArray) else x


class ToyNamespace:
    """The library's functions under their array API names: here NumPy's, boxed."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if isinstance(found, type):  # a dtype
            return found
        return lambda *args, **kwargs: ToyArray(
            found(*map(unboxed, args), **{key: unboxed(value) for key, value in kwargs.items()})
        )


class ToyBackend(Backend[ToyArray]):
    """What scree needs to know of the library."""

    name = "scree_toy"  # the root module of the array type, and the entry point's name
    namespace = ToyNamespace()

    # Required ---------------------------------------------------------------------------------------

    def owns(self, x: object) -> bool:
        """Tell whether an array is ours."""
        return isinstance(x, ToyArray)

    @property
    def xp(self) -> Any:
        """The functions that core's defaults are written in; `scree_core.protocols.Namespace` lists them."""
        return self.namespace

    def from_numpy(self, a: np.ndarray, *, like: ToyArray | None = None) -> ToyArray:
        """Bring an array in; a library with devices puts it on the device of ``like``."""
        return ToyArray(a)

    def to_numpy(self, x: ToyArray) -> np.ndarray:
        """Bring an array out."""
        return x.host

    # Optional: what the library can tell for free ---------------------------------------------------

    def host_view(self, x: ToyArray) -> np.ndarray:
        """Let core check offsets at construction: reading ours costs no device sync."""
        return x.host

    # Optional: an op that the library does better than the default ----------------------------------

    def varlen_sum(self, x: ToyArray, layout: Layout[ToyArray], *, empty: Any) -> ToyArray:
        """Add up all rows in one call; core has checked the arguments, and wraps what we return."""
        offsets = layout.offsets.host
        wide = x.host if x.dtype.kind in "biu" else x.host.astype(np.float64)
        total = np.zeros((layout.batch_size, *x.shape[1:]), wide[:0].sum().dtype)
        filled = np.flatnonzero(offsets[1:] > offsets[:-1])
        if filled.size and total.size:
            total[filled] = np.add.reduceat(wide, offsets[filled], axis=0, dtype=total.dtype)
        total[np.diff(offsets) == 0] = empty
        return ToyArray(total if x.dtype.kind in "biu" else total.astype(x.dtype))
