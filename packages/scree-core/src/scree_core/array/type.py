"""``scree.Array``: a batch of sequences of unequal length, stored end to end without padding."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import Any, Generic

from scree_core.array import html, rows
from scree_core.array.elementwise import Elementwise
from scree_core.backend import Backend
from scree_core.dispatch import Call, elsewhere, run
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.layout import Layout, check_bounds, check_offsets, check_total
from scree_core.protocols import ArrayT
from scree_core.registry import backend_of


class Array(Elementwise, Generic[ArrayT]):
    """A batch of variable-length rows: packed ``values``, and ``offsets`` that say where each row lies.

    Row ``i`` is ``values[offsets[i]:offsets[i + 1]]`` along the axis ``ragged_dim``. Values may be of any
    array library with a backend (NumPy, torch, JAX, MLX, ...); the offsets are of the same library. Both
    objects are kept as they are: ``arr.values is values`` and ``arr.offsets is offsets``.

    Parameters
    ----------
    values : array, at least 1-D
        The elements of all rows, end to end along ``ragged_dim``, which has ``total`` of them.
    offsets : array of shape (batch + 1,), int32 or int64
        Row boundaries: the first is 0, they never decrease, the last is ``total``.
    ragged_dim : int, default 0
        The axis of ``values`` along which rows lie; negative counts from the end.
    max_length, min_length : int, optional
        Bounds of the row lengths for the host to rely on without a device sync (kernels and padding
        need the longest). NumPy and other host-readable offsets are measured when it is first asked.
    tail : bool, default False
        Whether values may go on behind the last offset. Those elements are dead: they may hold anything,
        NaN too, influence nothing, and ops give 0 there. So shapes can stay while lengths change, for
        compilers and CUDA graphs; ``scree.bucket`` makes such Arrays.

    Raises
    ------
    ShapeError
        A ``ValueError``: an invariant above doesn't hold, or the two are on different devices. Offsets that
        the host can read without a sync are checked whole; for others see ``validate``.
    ArgumentTypeError
        Something is no array, or they are of two libraries, or NumPy's masked arrays, whose mask would be lost.
    BackendNotInstalledError
        No installed backend owns such arrays; the message says what to install.

    Notes
    -----
    Costs no copy and no device sync. Immutable: operators and functions return new Arrays, most of which
    share this one's ``Layout``. ``==`` is elementwise, and ``hash`` goes by identity, as for torch
    tensors.

    Examples
    --------
    >>> import numpy as np, scree
    >>> arr = scree.Array(np.arange(5.0), np.array([0, 2, 2, 5], np.int32))
    >>> arr
    scree.Array(batch_size=3, total_length=5, feature_shape=(), dtype=float64)
    >>> [row.tolist() for row in arr]
    [[0.0, 1.0], [], [2.0, 3.0, 4.0]]
    """

    __slots__ = ("__weakref__", "layout", "ragged_dim", "values")

    values: ArrayT
    layout: Layout[ArrayT]
    ragged_dim: int

    def __init__(
        self,
        values: ArrayT,
        offsets: ArrayT,
        ragged_dim: int = 0,
        *,
        max_length: int | None = None,
        min_length: int | None = None,
        tail: bool = False,
    ) -> None:
        ragged_dim = _checked_axis(values, ragged_dim)
        backend = backend_of(values)
        is_array = hasattr(offsets, "dtype")
        if is_array and type(offsets) is not type(values) and not backend.owns(offsets):
            raise ArgumentTypeError(
                f"values and offsets must belong to one library, got {type(values).__name__} and "
                f"{type(offsets).__name__}; scree.from_lengths puts offsets where the values are"
            )
        if is_array and not backend.beside(values, offsets):
            raise ShapeError(elsewhere(backend, "values", values, "offsets", offsets))
        ragged_length = values.shape[ragged_dim]
        host = backend.host_view(offsets) if is_array else None
        layout = Layout(offsets, max_length=max_length, min_length=min_length, host=host, tail=tail)
        if layout.host is not None:
            check_total(layout.host, ragged_length, f"values.shape[ragged_dim={ragged_dim}]", layout.tail)
        layout.learn_total(ragged_length)
        self._fill(values, layout, ragged_dim)

    def _fill(self, values: Any, layout: Any, ragged_dim: int) -> None:
        set_ = object.__setattr__
        set_(self, "values", values)
        set_(self, "layout", layout)
        set_(self, "ragged_dim", ragged_dim)

    @classmethod
    def trusted(cls, values: ArrayT, layout: Layout[ArrayT], ragged_dim: int = 0) -> Array[ArrayT]:
        """Make an Array from parts that are known to fit, without any check.

        For code that has just made the parts, and for pytree unflattening, whose leaves may be
        placeholders of any type. To put other values on a layout, use ``with_values``.
        """
        self = object.__new__(cls)
        self._fill(values, layout, ragged_dim)
        return self

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a scree.Array is immutable: can't set {name!r}; use with_values or make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a scree.Array is immutable: can't delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).trusted, (self.values, self.layout, self.ragged_dim)

    # ------------------------------------------------------------------ what the host knows

    @property
    def backend(self) -> Backend[ArrayT]:
        """The backend that owns the values."""
        return backend_of(self.values)

    @property
    def offsets(self) -> ArrayT:
        """Row boundaries ``(batch + 1,)``: the object that was given."""
        return self.layout.offsets

    @property
    def batch_size(self) -> int:
        """Number of rows, empty ones included. No sync."""
        return self.layout.batch_size

    @property
    def total_length(self) -> int:
        """Number of elements of all rows together, and of a tail, from the shape of the values. No sync."""
        return self.values.shape[self.ragged_dim]

    @property
    def max_length(self) -> int | None:
        """No row is longer: the hint given, or measured where offsets are in host memory; else None. No sync."""
        return self.layout.max_length

    @property
    def min_length(self) -> int | None:
        """No row is shorter: the hint given, or measured where offsets are in host memory; else None. No sync."""
        return self.layout.min_length

    @property
    def dtype(self) -> Any:
        """The library's dtype of the values."""
        return self.values.dtype

    @property
    def device(self) -> str:
        """Where the values are, as the library spells it."""
        return self.backend.device(self.values)

    @property
    def ndim(self) -> int:
        """Number of axes of the values, the ragged one included."""
        return len(self.values.shape)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of the values without the ragged axis."""
        shape = tuple(self.values.shape)
        return shape[: self.ragged_dim] + shape[self.ragged_dim + 1 :]

    @property
    def nbytes(self) -> int:
        """Bytes of values and offsets."""
        return self.backend.nbytes(self.values) + self.backend.nbytes(self.offsets)

    # ------------------------------------------------------------------ what derives from the offsets

    @property
    def lengths(self) -> ArrayT:
        """Row lengths ``(batch,)`` in the offsets' dtype and on their device. No sync."""
        return self.layout.lengths

    @property
    def segment_ids(self) -> ArrayT:
        """Row number of each element, ``(total,)``, in the offsets' dtype; in a tail ``batch``. No sync; kept."""
        return run(Call("segment_ids", (self.layout, self.total_length), {}, {"arr": self.offsets}))

    @property
    def positions(self) -> ArrayT:
        """Index of each element within its row, ``(total,)``, in the offsets' dtype; in a tail 0. No sync; kept."""
        return run(Call("positions", (self.layout, self.total_length), {}, {"arr": self.offsets}))

    # ------------------------------------------------------------------ rows

    def __len__(self) -> int:
        return self.batch_size

    def __bool__(self) -> bool:
        raise ArgumentError(
            "the truth value of a scree.Array is ambiguous; use len(arr) > 0, or arr.values.all() after a comparison"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise ArgumentTypeError(
            "a scree.Array doesn't turn into a dense array by itself: use arr.values for the packed elements, "
            "or scree.to_padded(arr)"
        )

    def __iter__(self) -> Iterator[ArrayT]:
        return rows.iterate(self)

    def __getitem__(self, key: Any) -> Any:
        """Return one row (an integer), or the Array of several rows (a slice, list or array of integers, mask).

        A row is a view, as far as the library has views; so is the Array of a slice with step 1. Other
        selections gather, one copy of what is selected. Reads the offsets on the host, which syncs a
        device once for each layout.

        Raises
        ------
        IndexError
            A row number out of range, a mask of the wrong length, or an index of features: for those
            use ``arr.with_values(arr.values[:, 0])``.
        """
        return rows.select(self, key)

    # ------------------------------------------------------------------ other values, same layout

    def with_values(self, values: ArrayT) -> Array[ArrayT]:
        """Return an Array of other values on this layout, which is shared: no copy, no check of offsets, no sync.

        Parameters
        ----------
        values : array
            Of the same length along the ragged axis; features and dtype may differ.

        Raises
        ------
        ShapeError
            The ragged axis has another length.
        ArgumentTypeError
            The values belong to another library.
        """
        if len(getattr(values, "shape", ())) <= self.ragged_dim:
            raise ShapeError(
                f"values need the ragged axis {self.ragged_dim}, got shape {getattr(values, 'shape', None)}"
            )
        if type(values) is not type(self.values) and not self.backend.owns(values):
            raise ArgumentTypeError(
                f"values and offsets must belong to one library, got {type(values).__name__} for a layout of "
                f"{type(self.offsets).__name__}"
            )
        if values.shape[self.ragged_dim] != self.total_length:
            raise ShapeError(
                f"values have {values.shape[self.ragged_dim]} elements along axis {self.ragged_dim}, "
                f"the layout has {self.total_length}"
            )
        return Array.trusted(values, self.layout, self.ragged_dim)

    def astype(self, dtype: Any) -> Array[ArrayT]:
        """Return the values cast to a dtype of their library, or to the name of one such as ``"float16"``.

        Copies the values unless they have that dtype already; shares the layout.
        """
        return Array.trusted(self.backend.astype(self.values, dtype), self.layout, self.ragged_dim)

    def validate(self) -> Array[ArrayT]:
        """Check the values of the offsets, wherever they are, and return this Array.

        Raises
        ------
        ShapeError
            As at construction, for offsets that only a device could read then.

        Notes
        -----
        Syncs the device once. Construction has already checked offsets in host memory.
        """
        host = self.backend.to_numpy(self.offsets)
        check_offsets(host)
        check_total(host, self.total_length, f"values.shape[ragged_dim={self.ragged_dim}]", self.layout.tail)
        check_bounds(host, self.layout.max_length, self.layout.min_length)
        return self

    # ------------------------------------------------------------------ looks

    def __repr__(self) -> str:
        dtype = str(self.dtype).rsplit(".", 1)[-1]
        axis = f"ragged_dim={self.ragged_dim}, " if self.ragged_dim else ""
        tail = "tail=True, " if self.layout.tail else ""
        return (
            f"scree.Array(batch_size={self.batch_size}, total_length={self.total_length}, {axis}{tail}"
            f"feature_shape={self.feature_shape}, dtype={dtype})"
        )

    def _repr_html_(self) -> str:
        """Draw the row lengths for a notebook, and what padding would have cost. Syncs a device once."""
        return html.draw(self)


def _checked_axis(values: Any, ragged_dim: int) -> int:
    if not hasattr(values, "shape") or not hasattr(values, "dtype"):
        raise ArgumentTypeError(
            f"values must be an array, got {type(values).__name__}; for a list of arrays use scree.pack"
        )
    ndim = len(values.shape)
    if ndim < 1:
        raise ShapeError("values must be at least 1-D")
    return checked_axis(ragged_dim, ndim)


def checked_axis(ragged_dim: int, ndim: int) -> int:
    """Return an axis of ``ndim``-dimensional values, counted from the front."""
    try:
        axis = index(ragged_dim)
    except TypeError:
        raise ArgumentTypeError(f"ragged_dim must be an integer, got {ragged_dim!r}") from None
    if not -ndim <= axis < ndim:
        raise ShapeError(f"ragged_dim={ragged_dim} out of range for {ndim}-D values")
    return axis % ndim
