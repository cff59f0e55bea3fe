"""The contract between scree and an array library: what a backend must provide, and may make faster.

A ``Backend`` owns an array type. Four methods are required; every op of the contract then works,
through core's reference on the library's own arrays, and each may be overridden for speed.

Core has checked every argument and filled every default before a method here is called, and wraps what it returns:
a method receives raw arrays whose ragged axis is the first, with their ``Layout``, and returns raw arrays.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Generic

import numpy as np

from scree_core import reference, tail
from scree_core.contract import CONTRACT
from scree_core.contract import OPS as OPS
from scree_core.errors import UnsupportedError
from scree_core.layout import Layout, offsets_from_lengths
from scree_core.plugin import Plugin
from scree_core.protocols import ArrayT, Namespace

HALF_DTYPES = ("float16", "bfloat16")
FLOAT_DTYPES = ("float64", "float32", *HALF_DTYPES)


class Backend(Plugin, Generic[ArrayT]):
    """An array library's implementation of the contract.

    Subclass it, name it like the root module of the array type it owns, implement the four abstract
    methods, and offer the class under the entry-point group ``scree.backends``. It must be
    constructible without arguments; one instance is made when the first array of its type is met.
    """

    name: ClassVar[str]
    """Name to select it by, and its entry point's name: the root module of the array type."""
    contract: ClassVar[int] = CONTRACT
    """Version of this contract that the class was written for."""
    differentiates: ClassVar[bool] = False
    """Whether ``vjp`` works: the library has automatic differentiation."""
    immutable: ClassVar[bool] = False
    """Whether the library takes its arrays for immutable: bridges lend none of their memory to who may write it, and
    lend it none that others write, unless they are told to."""
    takes_tail: ClassVar[bool] = False
    """Whether the ops, those of overlays too, take a tail: elements behind the last offset, all 0, whose results
    may be anything. Where not, core cuts it off, by offsets on the host."""

    # ------------------------------------------------------------------ the array type: required

    @abc.abstractmethod
    def owns(self, x: object) -> bool:
        """Tell whether ``x`` is an array of this library. Never raises, never syncs."""

    @property
    @abc.abstractmethod
    def xp(self) -> Namespace:
        """The library's functions under their array API names."""

    @abc.abstractmethod
    def from_numpy(self, a: np.ndarray, *, like: ArrayT | None = None) -> ArrayT:
        """Return the library's array of the same values and dtype, on the device of ``like``.

        ``a`` may be read-only, non-contiguous, and of ``ml_dtypes.bfloat16``.
        """

    @abc.abstractmethod
    def to_numpy(self, x: ArrayT) -> np.ndarray:
        """Return a NumPy array of the same values and dtype (``ml_dtypes.bfloat16`` for bfloat16). May sync."""

    # ------------------------------------------------------------------ the array type: optional

    def array_types(self) -> tuple[type, ...]:
        """Return the array types to prepare for in ``scree.preload``, besides those met by then."""
        return ()

    def host_view(self, x: ArrayT) -> np.ndarray | None:
        """Return the values of ``x`` as NumPy where that costs no sync and no copy, else None."""
        return None

    def may_cache(self, x: ArrayT) -> bool:
        """Tell whether ``x`` may be kept beyond this call: False under a trace."""
        return False

    def form(self, *arrays: ArrayT) -> Hashable | None:
        """Return all that checks, and the choice of who runs a call, may look at in arrays; None under a trace.

        Library, shapes, strides, dtypes and devices: calls that agree in them are checked once. The default, None,
        has every call checked.
        """
        return None

    def dtype(self, name: str) -> Any:
        """Return the library's dtype of that name, such as ``"float16"``."""
        return getattr(self.xp, name)

    def dtype_name(self, x: ArrayT) -> str:
        """Return the name of the dtype of ``x``, such as ``"float16"``."""
        return str(x.dtype).rsplit(".", 1)[-1]

    def astype(self, x: ArrayT, dtype: Any) -> ArrayT:
        """Cast to one of the library's dtypes, or to the name of one."""
        return self.xp.astype(x, self.dtype(dtype) if isinstance(dtype, str) else dtype)

    def full_like(self, x: ArrayT, fill_value: Any, dtype: Any = None) -> ArrayT:
        """Return an array of the shape and device of ``x``, every element one value."""
        dtype = self.dtype(dtype) if isinstance(dtype, str) else dtype
        return self.xp.full_like(x, fill_value, dtype=dtype)

    def empty_like(self, x: ArrayT, dtype: Any = None) -> ArrayT:
        """Return an array of the shape and device of ``x`` whose elements may be anything."""
        return self.full_like(x, 0, dtype)

    def lengthen(self, x: ArrayT, total: int) -> ArrayT:
        """Return ``x`` with zeros behind it along the first axis, up to ``total`` elements."""
        return tail.lengthened(self.xp, x, total)

    def split(self, x: ArrayT, bounds: Sequence[int], axis: int) -> Sequence[ArrayT]:
        """Return the stretches of ``x`` between neighbouring ``bounds`` along an axis; views where there are views."""
        before = (slice(None),) * axis
        return [x[(*before, slice(start, stop), ...)] for start, stop in itertools.pairwise(bounds)]

    def nbytes(self, x: ArrayT) -> int:
        """Return the bytes that the elements of ``x`` take."""
        return int(x.nbytes)

    def device(self, x: ArrayT) -> str:
        """Return the device of ``x`` as a string, ``"cpu"`` where the library has but one."""
        return str(getattr(x, "device", "cpu"))

    def beside(self, x: ArrayT, y: ArrayT) -> bool:
        """Tell whether two arrays are on one device, or the library brings them together by itself. No sync."""
        return True

    def synchronize(self, x: Any) -> None:
        """Wait until ``x`` (an array or a tuple of them) is computed. For benchmarks and tests."""

    def vjp(
        self, fn: Callable[..., Any], primals: tuple[ArrayT, ...], cotangents: tuple[ArrayT, ...]
    ) -> tuple[ArrayT, ...]:
        """Return the gradients of ``sum(cotangent * output)`` with respect to each primal.

        ``fn`` maps the primals to a tuple of arrays, one for each cotangent.
        """
        raise UnsupportedError(f"backend {self.name!r} does not differentiate: {type(self).__name__} has no vjp")

    def with_vjp(
        self, fn: Callable[..., tuple[ArrayT, ...]], vjp: Callable[[Any, Any], tuple[ArrayT, ...]]
    ) -> Callable[..., tuple[ArrayT, ...]]:
        """Return ``fn`` with a gradient of its own: ``vjp(arrays, cotangents)``, one gradient for each array.

        The defaults of attention, softmax, log-sum-exp and cross-entropy go through this: the reference's own vjp
        rounds less than a trace of its steps, and keeps none. Without an override the library differentiates ``fn``
        by itself.
        """
        return fn

    # ------------------------------------------------------------------ layouts

    def host_offsets(self, layout: Layout[ArrayT]) -> np.ndarray:
        """Return the offsets in host memory, reading the device (one sync) at most once for a layout."""
        if layout.host is not None:
            return layout.host
        return self._derived(layout, "host_offsets", lambda: self.to_numpy(layout.offsets))

    def layout_from_lengths(self, lengths: Sequence[int], *, like: ArrayT) -> Layout[ArrayT]:
        """Make a layout on the device of ``like`` from row lengths, with every hint filled."""
        return self.layout_from_host(offsets_from_lengths(np.asarray(lengths, np.int64)), like=like)

    def layout_from_host(self, offsets: np.ndarray, *, like: ArrayT) -> Layout[ArrayT]:
        """Make a layout on the device of ``like`` from offsets in host memory, with every hint filled."""
        return Layout.known(self.from_numpy(offsets, like=like), offsets)

    def _derived(self, layout: Layout[ArrayT], key: str, build: Callable[[], Any]) -> Any:
        return layout.derived(key, build) if self.may_cache(layout.offsets) else build()

    # ------------------------------------------------------------------ ops: where things sit

    def segment_ids(self, layout: Layout[ArrayT], total: int) -> ArrayT:
        """Return the row number of each element, ``(total,)``, in the offsets' dtype; ``batch`` in a tail."""
        return self._derived(layout, "segment_ids", lambda: reference.segment_ids(self.xp, layout.offsets, total))

    def positions(self, layout: Layout[ArrayT], total: int) -> ArrayT:
        """Return the index of each element within its row, ``(total,)``, in the offsets' dtype; 0 in a tail."""

        def build() -> ArrayT:
            segment_ids = self.segment_ids(layout, total)
            found = reference.positions(self.xp, layout.offsets, segment_ids)
            if not layout.tail:
                return found
            return self.xp.where(segment_ids < layout.batch_size, found, self.xp.zeros_like(found))

        return self._derived(layout, "positions", build)

    def pack(self, arrays: Sequence[ArrayT]) -> ArrayT:
        """Join arrays ``(length_i, *features)`` along the first axis; at least one is given."""
        return self.xp.concat(list(arrays), axis=0)

    def take_rows(self, x: ArrayT, index: np.ndarray) -> ArrayT:
        """Gather elements along the first axis by host indices, all of them valid."""
        if index.shape[0] == 0:
            return x[:0, ...]
        return self.xp.take(x, self.from_numpy(index, like=x), axis=0)

    def to_padded(
        self, x: ArrayT, layout: Layout[ArrayT], *, width: int, side: str, fill_value: Any
    ) -> tuple[ArrayT, ArrayT]:
        """Return ``(padded, mask)`` of ``(batch, width, *features)`` and bool ``(batch, width)``.

        ``side`` is ``"right"`` or ``"left"``, where the padding goes; no row is longer than ``width``.
        """
        return reference.to_padded(self.xp, x, layout.offsets, width, side, fill_value)

    def from_padded(
        self, padded: ArrayT, mask: ArrayT, *, capacity: int | None = None
    ) -> tuple[ArrayT, Layout[ArrayT]]:
        """Return the elements where the bool ``mask`` ``(batch, width)`` is True, row by row, and their layout.

        With ``capacity``, zeros follow up to that many elements as a tail: no need to read the mask on the host.
        """
        if capacity is not None:
            return tail.with_capacity(self, *self.from_padded(padded, mask), capacity)
        host = self.to_numpy(mask)
        layout = self.layout_from_host(offsets_from_lengths(host.sum(axis=1)), like=mask)
        flat = self.xp.reshape(padded, (host.size, *padded.shape[2:]))
        return self.take_rows(flat, np.flatnonzero(host)), layout

    def repeat_rows(self, dense: ArrayT, layout: Layout[ArrayT], total: int) -> ArrayT:
        """Return ``dense[segment_ids]``: ``(batch, *features)`` to ``(total, *features)``."""
        if layout.tail:  # its row number is one past the last
            dense = self.lengthen(dense, layout.batch_size + 1)
        return reference.repeat_rows(self.xp, dense, self.segment_ids(layout, total))

    # ------------------------------------------------------------------ ops: computation

    def varlen_attention(
        self,
        q: ArrayT,
        k: ArrayT,
        v: ArrayT,
        q_layout: Layout[ArrayT],
        k_layout: Layout[ArrayT],
        *,
        causal: bool,
        scale: float,
        window: tuple[int, int],
        softcap: float | None,
        sinks: ArrayT | None,
        return_lse: bool,
    ) -> tuple[ArrayT, ArrayT | None]:
        """Return the output ``(total_q, heads, head_dim_v)`` and, if asked, lse ``(total_q, heads)``.

        q is ``(total_q, heads, head_dim)``, k ``(total_k, kv_heads, head_dim)``, v ``(total_k, kv_heads,
        head_dim_v)``, sinks ``(heads,)``. The lse is float32, or float64 for float64 input.
        """
        given = (q, k, v) if sinks is None else (q, k, v, sinks)
        offsets = self.host_offsets(q_layout), self.host_offsets(k_layout)
        options = {"causal": causal, "scale": scale, "window": window, "softcap": softcap}

        def fn(*arrays: ArrayT) -> tuple[ArrayT, ...]:
            q, k, v, sinks = (*arrays, None)[:4]
            out, lse = self.run_reference("varlen_attention", (q, k, v), offsets, sinks=sinks, **options)
            return (self._narrow(out, q), lse) if return_lse else (self._narrow(out, q),)

        def vjp(arrays: tuple[ArrayT, ...], cotangents: tuple[ArrayT, ...]) -> tuple[ArrayT, ...]:
            q, k, v, sinks = (*arrays, None)[:4]
            upstream = cotangents if return_lse else (*cotangents, None)
            found = self.run_reference("varlen_attention_vjp", (*upstream, q, k, v), offsets, sinks=sinks, **options)
            return tuple(self._narrow(found[i], a) for i, a in enumerate(arrays))

        results = self.with_vjp(fn, vjp)(*given)
        return results[0], results[1] if return_lse else None

    def varlen_layernorm(self, x: ArrayT, weight: ArrayT | None, bias: ArrayT | None, *, eps: float) -> ArrayT:
        """Normalise over the last axis; weight and bias are ``(x.shape[-1],)``. Statistics in float32 or wider."""
        return self._narrow(self.run_reference("varlen_layernorm", (x, weight, bias), eps=eps), x)

    def varlen_rmsnorm(self, x: ArrayT, weight: ArrayT | None, *, eps: float) -> ArrayT:
        """Divide by the root mean square over the last axis; weight is ``(x.shape[-1],)``."""
        return self._narrow(self.run_reference("varlen_rmsnorm", (x, weight), eps=eps), x)

    def varlen_softmax(self, x: ArrayT, layout: Layout[ArrayT]) -> ArrayT:
        """Softmax over each row's elements, for each feature by itself."""
        return self._with_reference_vjp("varlen_softmax", x, self.host_offsets(layout))

    def varlen_rope(
        self,
        x: ArrayT,
        cos: ArrayT,
        sin: ArrayT,
        layout: Layout[ArrayT],
        positions: ArrayT | None,
        *,
        interleaved: bool,
    ) -> ArrayT:
        """Rotate pairs of the last axis by the angle of each element's position.

        x is ``(total, ..., head_dim)``, cos and sin ``(max_position, rotary_dim / 2)``, positions int
        ``(total,)`` or None for the index within the row.
        """
        if positions is None:
            positions = self.positions(layout, x.shape[0])
        return self._narrow(self.run_reference("varlen_rope", (x, cos, sin, positions), interleaved=interleaved), x)

    def varlen_sum(self, x: ArrayT, layout: Layout[ArrayT], *, empty: Any) -> ArrayT:
        """Return each row's sum, ``(batch, *features)``; an empty row gives ``empty``."""
        return self._narrow(self.run_reference("varlen_sum", (x,), (self.host_offsets(layout),), empty), x)

    def varlen_mean(self, x: ArrayT, layout: Layout[ArrayT], *, empty: Any) -> ArrayT:
        """Return each row's mean, ``(batch, *features)``; an empty row gives ``empty``."""
        return self._narrow(self.run_reference("varlen_mean", (x,), (self.host_offsets(layout),), empty), x)

    def varlen_max(self, x: ArrayT, layout: Layout[ArrayT], *, empty: Any) -> ArrayT:
        """Return each row's maximum, ``(batch, *features)``; an empty row gives ``empty``."""
        return self._narrow(self.run_reference("varlen_max", (x,), (self.host_offsets(layout),), empty), x)

    def varlen_min(self, x: ArrayT, layout: Layout[ArrayT], *, empty: Any) -> ArrayT:
        """Return each row's minimum, ``(batch, *features)``; an empty row gives ``empty``."""
        return self._narrow(self.run_reference("varlen_min", (x,), (self.host_offsets(layout),), empty), x)

    def varlen_logsumexp(self, x: ArrayT, layout: Layout[ArrayT], *, empty: Any) -> ArrayT:
        """Return each row's ``log(sum(exp(x)))``, ``(batch, *features)``; an empty row gives ``empty``."""
        return self._with_reference_vjp("varlen_logsumexp", x, self.host_offsets(layout), empty)

    def varlen_cumsum(self, x: ArrayT, layout: Layout[ArrayT]) -> ArrayT:
        """Return the running sum within each row, inclusive."""
        return self._narrow(self.run_reference("varlen_cumsum", (x,), (self.host_offsets(layout),)), x)

    def varlen_cross_entropy(self, logits: ArrayT, labels: ArrayT) -> ArrayT:
        """Return each element's ``logsumexp(logits) - logits[label]``, ``(total,)``, in float32 or wider.

        logits are ``(total, vocab)``, labels int ``(total,)``: the class that an element is compared with, already
        shifted. Below 0 none is, which gives 0; ``vocab`` and more give NaN, as an infinite largest logit does.
        """

        def fn(logits: ArrayT) -> tuple[ArrayT, ...]:
            return (self.run_reference("varlen_cross_entropy", (logits, labels)),)

        def vjp(arrays: tuple[ArrayT, ...], cotangents: tuple[ArrayT, ...]) -> tuple[ArrayT, ...]:
            (d_logits,) = self.run_reference("varlen_cross_entropy_vjp", (*cotangents, *arrays, labels))
            return (self._narrow(d_logits, arrays[0]),)

        return self.with_vjp(fn, vjp)(logits)[0]

    def as_one(self, fn: Callable[..., ArrayT], arrays: tuple[Any, ...], **options: Any) -> ArrayT:
        """Return ``fn(xp, *arrays, **options)``, small steps of core's; a library that compiles makes one of them."""
        return fn(self.xp, *arrays, **options)

    def _with_reference_vjp(self, op: str, x: ArrayT, offsets: np.ndarray, *options: Any) -> ArrayT:
        def fn(x: ArrayT) -> tuple[ArrayT, ...]:
            return (self._narrow(self.run_reference(op, (x,), (offsets,), *options), x),)

        def vjp(arrays: tuple[ArrayT, ...], cotangents: tuple[ArrayT, ...]) -> tuple[ArrayT, ...]:
            (d_x,) = self.run_reference(f"{op}_vjp", (*cotangents, *arrays), (offsets,), *options)
            return (self._narrow(d_x, arrays[0]),)

        return self.with_vjp(fn, vjp)(x)[0]

    # ------------------------------------------------------------------ how the defaults run

    def run_reference(
        self, op: str, arrays: Sequence[ArrayT | None], offsets: Sequence[np.ndarray] = (), *options: Any, **named: Any
    ) -> Any:
        """Run an op of the reference on this library's arrays, in float32 or wider.

        A library that compiles overrides this to compile the whole op: the rows unroll to many small steps.

        Parameters
        ----------
        op : str
            Name in ``scree_core.reference``.
        arrays, offsets : sequences of arrays
            Its first arguments: the library's, then those in host memory.
        *options, **named : numbers, tuples and arrays
            The rest.
        """
        wide = (None if a is None else self._widen(a) for a in arrays)
        named = {name: self._widen(value) if self.owns(value) else value for name, value in named.items()}
        return getattr(reference, op)(self.xp, *wide, *offsets, *options, **named)

    def _widen(self, x: ArrayT) -> ArrayT:
        """Cast half precision to float32 to compute in; everything else stays."""
        return self.astype(x, "float32") if self.dtype_name(x) in HALF_DTYPES else x

    def _narrow(self, out: ArrayT, x: ArrayT) -> ArrayT:
        """Cast a result back to the floating dtype of the input ``x``; sums of integers keep their own."""
        dtype = self.dtype_name(x)
        return self.astype(out, dtype) if dtype in FLOAT_DTYPES and dtype != self.dtype_name(out) else out
