"""Who sits where: the offsets of a batch, what the host knows of them, and what derives from them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import index
from typing import Any, Generic

import numpy as np

from scree_core.errors import ArgumentTypeError, ShapeError
from scree_core.protocols import ArrayT

OFFSET_DTYPES = ("int32", "int64")
INT32_MAX = 2**31 - 1


class Layout(Generic[ArrayT]):
    """The row boundaries of a batch, shared by every ``scree.Array`` that lies in the same way.

    Row ``i`` holds the elements ``offsets[i]`` up to, not including, ``offsets[i + 1]``. The offsets
    object itself is kept (``layout.offsets is offsets``). A layout is immutable; what it derives from
    its offsets (segment ids, a kernel's tile plan) is made once and shared by all its arrays, so that
    it is paid for once per batch and not once per layer.

    Parameters
    ----------
    offsets : array of shape (batch + 1,), int32 or int64
        Row boundaries: the first is 0, and they never decrease. At least one element; a single one is
        a batch of no rows.
    total : int, optional
        Number of elements, ``offsets[-1]``, or with a tail at least that. Known to the host from the values' shape.
    max_length, min_length : int, optional
        Bounds of the row lengths that the host may rely on without reading ``offsets``: no row is
        longer than ``max_length`` or shorter than ``min_length``. Checked where ``host`` is known.
    host : numpy.ndarray, optional
        The offsets' values in host memory, where having them costs no device sync. NumPy offsets are
        their own.
    tail : bool, default False
        Whether elements may follow the last offset. They are dead: they may hold anything, influence
        nothing, and ops give 0 there. For shapes that stay while lengths change: ``scree.bucket``.

    Raises
    ------
    ShapeError
        The offsets aren't 1-D, are empty, aren't int32 or int64, don't start at 0, or decrease, or a
        bound is wrong. Values are checked where ``host`` is known; elsewhere ``Array.validate`` does.

    Notes
    -----
    Construction copies nothing and reads nothing from a device.
    """

    __slots__ = (
        "__weakref__",
        "_derived",
        "_longest",
        "_max_length",
        "_min_length",
        "host",
        "offsets",
        "tail",
        "total",
    )

    offsets: ArrayT
    host: np.ndarray | None
    total: int | None
    tail: bool
    _max_length: int | None
    _min_length: int | None
    _longest: int | None
    _derived: dict[Hashable, Any]

    def __init__(
        self,
        offsets: ArrayT,
        *,
        total: int | None = None,
        max_length: int | None = None,
        min_length: int | None = None,
        host: np.ndarray | None = None,
        tail: bool = False,
    ) -> None:
        check_structure(offsets)
        max_length, min_length = checked_bound("max_length", max_length), checked_bound("min_length", min_length)
        if host is None and isinstance(offsets, np.ndarray):
            host = offsets
        longest = None
        if host is not None:
            check_offsets(host)
            check_bounds(host, max_length, min_length)
            if total is not None:
                check_total(host, total, "total", tail)
            # Measured now: later may be inside a trace, which can't run NumPy.
            lengths = np.diff(host)
            longest = int(lengths.max(initial=0))
            max_length = longest if max_length is None else max_length
            if min_length is None:
                min_length = int(lengths.min()) if lengths.size else 0
        self._fill(offsets, total, max_length, min_length, host, longest, bool(tail))

    def _fill(
        self, offsets: Any, total: Any, max_length: Any, min_length: Any, host: Any, longest: Any, tail: bool
    ) -> None:
        set_ = object.__setattr__
        set_(self, "offsets", offsets)
        set_(self, "total", total)
        set_(self, "_max_length", max_length)
        set_(self, "_min_length", min_length)
        set_(self, "_longest", longest)
        set_(self, "host", host)
        set_(self, "tail", tail)
        set_(self, "_derived", {})

    @classmethod
    def trusted(
        cls,
        offsets: ArrayT,
        *,
        total: int | None = None,
        max_length: int | None = None,
        min_length: int | None = None,
        host: np.ndarray | None = None,
        tail: bool = False,
    ) -> Layout[ArrayT]:
        """Make a layout from offsets that are known to be right, without any check.

        For code that has just computed the offsets, and for pytree unflattening, whose leaves may be
        placeholders of any type. Parameters are those of ``Layout``.
        """
        self = object.__new__(cls)
        self._fill(offsets, total, max_length, min_length, host, None, tail)
        return self

    @classmethod
    def known(cls, offsets: ArrayT, host: np.ndarray) -> Layout[ArrayT]:
        """Make a layout from right offsets and their values in host memory, with every hint filled."""
        lengths = np.diff(host)
        return cls.trusted(
            offsets,
            total=int(host[-1]),
            max_length=int(lengths.max(initial=0)),
            min_length=int(lengths.min()) if lengths.size else 0,
            host=host,  # kept, so that nothing has to read the device for it later
        )

    def learn_total(self, total: int) -> None:
        """Note how many elements there are, in a layout that is new and nobody else's yet."""
        object.__setattr__(self, "total", total)

    def without_tail(self, host: np.ndarray) -> Layout[ArrayT]:
        """Return a layout of the same rows that ends with the last, given the offsets' values in host memory."""
        bounds = {"max_length": self._max_length, "min_length": self._min_length}
        return Layout.trusted(self.offsets, total=int(host[-1]), host=host, **bounds)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Layout is immutable: can't set {name!r}; make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Layout is immutable: can't delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.offsets, self.total, self.max_length, self.min_length, self.tail)

    def __repr__(self) -> str:
        tail = ", tail=True" if self.tail else ""
        return f"scree.Layout(batch_size={self.batch_size}, total={self.total}, max_length={self._max_length}{tail})"

    @property
    def batch_size(self) -> int:
        """Number of rows, from the shape of the offsets; no sync."""
        return self.offsets.shape[0] - 1

    @property
    def lengths(self) -> ArrayT:
        """Row lengths ``(batch,)`` in the offsets' dtype and on their device; a new array, no sync."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def max_length(self) -> int | None:
        """No row is longer than this; None where only the device knows. Never syncs."""
        return self._max_length

    @property
    def min_length(self) -> int | None:
        """No row is shorter than this; None where only the device knows. Never syncs."""
        return self._min_length

    @property
    def longest(self) -> int | None:
        """The longest row where offsets are in host memory, else the bound ``max_length``. Never syncs."""
        return self._max_length if self._longest is None else self._longest

    def derived(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """Return what was derived from these offsets under ``key``, building it the first time.

        For backends. Never call it with arrays made under a trace: a leaked tracer or fake tensor
        would poison later calls.
        """
        try:
            return self._derived[key]
        except KeyError:
            return self._derived.setdefault(key, build())

    def same(self, other: Layout[Any]) -> bool | None:
        """Tell whether two layouts have equal offsets, without a sync; tails don't count.

        Returns
        -------
        bool or None
            True for the same object or offsets object, or equal offsets in host memory; False where
            they provably differ; None where only reading a device could tell.
        """
        if self is other or self.offsets is other.offsets:
            return True
        if self.batch_size != other.batch_size:
            return False
        if self.total is not None and other.total is not None and self.total != other.total:
            return False
        if self.host is not None and other.host is not None:
            return bool(np.array_equal(self.host, other.host))
        return None


def _rebuild(
    cls: type[Layout[Any]], offsets: Any, total: Any, max_length: Any, min_length: Any, tail: bool
) -> Layout[Any]:
    host = offsets if isinstance(offsets, np.ndarray) else None
    return cls.trusted(offsets, total=total, max_length=max_length, min_length=min_length, host=host, tail=tail)


def check_structure(offsets: Any) -> None:
    """Check what shape and dtype tell: 1-D, not empty, int32 or int64. No sync."""
    if not hasattr(offsets, "shape") or not hasattr(offsets, "dtype"):
        raise ArgumentTypeError(
            f"offsets must be an array, got {type(offsets).__name__}; for a list of lengths use scree.from_lengths"
        )
    if len(offsets.shape) != 1:
        raise ShapeError(f"offsets must be 1-D, got shape {tuple(offsets.shape)}")
    if offsets.shape[0] < 1:
        raise ShapeError("offsets must have at least one element; a batch of no rows has offsets [0]")
    name = str(offsets.dtype).rsplit(".", 1)[-1]
    if name not in OFFSET_DTYPES:
        raise ShapeError(f"offsets must be integers of dtype int32 or int64, got {name}; cast them to one of these")


def check_offsets(host: np.ndarray) -> None:
    """Check the values of offsets in host memory: they start at 0 and never decrease."""
    if host[0] != 0:
        raise ShapeError(f"offsets[0] must be 0, got {host[0]}")
    decreasing = host[1:] < host[:-1]
    if decreasing.any():
        i = int(decreasing.argmax())
        raise ShapeError(
            f"offsets must be non-decreasing, but offsets[{i + 1}] < offsets[{i}] ({host[i + 1]} < {host[i]})"
        )


def check_total(host: np.ndarray, total: int, name: str, tail: bool) -> None:
    """Check that offsets in host memory end where the elements do, or with a tail not behind them."""
    if tail and host[-1] > total:
        raise ShapeError(f"offsets[-1] ({host[-1]}) must not exceed {name} ({total})")
    if not tail and host[-1] != total:
        mend = "; for dead elements behind the last offset pass tail=True" if host[-1] < total else ""
        raise ShapeError(f"offsets[-1] ({host[-1]}) must equal {name} ({total}){mend}")


def checked_bound(name: str, bound: Any) -> Any:
    """Return a bound of row lengths as a plain integer, or None."""
    if bound is None:
        return None
    try:
        plain = index(bound)
    except TypeError:
        raise ArgumentTypeError(f"{name} must be an integer, got {bound!r}") from None
    if plain < 0:
        raise ShapeError(f"{name} must not be negative, got {plain}")
    return plain


def check_bounds(host: np.ndarray, max_length: int | None, min_length: int | None) -> None:
    """Check that length hints really bound the rows of offsets in host memory."""
    lengths = np.diff(host)
    if max_length is not None and lengths.size and lengths.max() > max_length:
        i = int(lengths.argmax())
        raise ShapeError(f"max_length={max_length} is too small: row {i} has {lengths[i]} elements")
    if min_length is not None and lengths.size and lengths.min() < min_length:
        i = int(lengths.argmin())
        raise ShapeError(f"min_length={min_length} is too large: row {i} has {lengths[i]} elements")


def offsets_from_lengths(lengths: np.ndarray) -> np.ndarray:
    """Cumulate host lengths ``(batch,)`` to offsets ``(batch + 1,)``: int32, or int64 past 2**31 - 1 elements."""
    offsets = np.zeros(lengths.shape[0] + 1, np.int64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    return offsets if offsets[-1] > INT32_MAX else offsets.astype(np.int32)
