"""JAX's side of the contract.

Importing it registers ``scree.Array`` and ``scree.Layout`` as pytrees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from scree_core.backend import Backend
from scree_core.errors import UnsupportedError
from scree_core.layout import Layout, offsets_from_lengths
from scree_core.protocols import Namespace
from scree_jax import geometry, namespace, norms, padding, reductions
from scree_jax.attention.blocked import blocked
from scree_jax.attention.entry import attend
from scree_jax.convert import from_numpy
from scree_jax.cross_entropy import cross_entropy
from scree_jax.cumsum import cumsum
from scree_jax.precision import narrowed, widened
from scree_jax.pytree import register
from scree_jax.rope import rope
from scree_jax.softmax import softmax

register()


class JaxBackend(Backend[jax.Array]):
    """Ops on ``jax.Array`` and tracers: each is one jitted program for a shape, whatever the offsets."""

    name = "jax"
    immutable = True
    differentiates = True
    takes_tail: ClassVar[bool] = True

    # ------------------------------------------------------------------ the array type

    def array_types(self) -> tuple[type, ...]:
        return (type(from_numpy(np.zeros(0, np.int32))),)

    def owns(self, x: object) -> bool:
        return isinstance(x, jax.Array)

    @property
    def xp(self) -> Namespace:
        return namespace

    def from_numpy(self, a: np.ndarray, *, like: jax.Array | None = None) -> jax.Array:
        return from_numpy(a, like)

    def to_numpy(self, x: jax.Array) -> np.ndarray:
        if isinstance(x, jax.core.Tracer):
            raise UnsupportedError(
                f"this needs the values of a traced array, {jax.typeof(x)}, on the host; under jit, close over an "
                "Array made outside, or make it inside from lengths that are plain numbers; for scree.to_padded "
                "pass max_length, for scree.from_padded pass capacity"
            )
        return np.asarray(jax.device_get(x))

    def may_cache(self, x: jax.Array) -> bool:
        # Under jit an operation on concrete arrays gives a tracer, even on none.
        return not isinstance(x, jax.core.Tracer) and not isinstance(_probe(), jax.core.Tracer)

    def dtype(self, name: str) -> Any:
        return getattr(jnp, name)

    def device(self, x: jax.Array) -> str:
        if isinstance(x, jax.core.Tracer):
            return "traced"
        devices = sorted(x.devices(), key=lambda device: device.id)
        return ",".join(f"{device.platform}:{device.id}" for device in devices)

    def synchronize(self, x: Any) -> None:
        jax.block_until_ready(x)

    def split(self, x: jax.Array, bounds: Sequence[int], axis: int) -> Sequence[jax.Array]:
        return padding.split(x, bounds, axis)

    def vjp(
        self, fn: Callable[..., Any], primals: tuple[jax.Array, ...], cotangents: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, ...]:
        outputs, pull = jax.vjp(lambda *inputs: tuple(fn(*inputs)), *primals)
        # Integers have no gradient: JAX wants, and gives, zeros of the dtype float0 for them.
        upstream = tuple(
            d if jnp.issubdtype(y.dtype, jnp.inexact) else np.zeros(y.shape, jax.dtypes.float0)
            for y, d in zip(outputs, cotangents, strict=True)
        )
        return tuple(
            jnp.zeros_like(p) if g.dtype == jax.dtypes.float0 else g
            for p, g in zip(primals, pull(upstream), strict=True)
        )

    # ------------------------------------------------------------------ layouts

    def _derived(self, layout: Layout[jax.Array], key: str, build: Callable[[], Any]) -> Any:
        # Under jit even concrete offsets give tracers, and one that is kept is a leak.
        if not self.may_cache(layout.offsets):
            return build()

        def build_now() -> Any:
            # JAX moves the constants of its own functions to the device, and the user's guard is not after these.
            with jax.transfer_guard_host_to_device("allow"):
                return build()

        return layout.derived(key, build_now)

    # ------------------------------------------------------------------ ops: where things sit

    def segment_ids(self, layout: Layout[jax.Array], total: int) -> jax.Array:
        return self._derived(layout, "segment_ids", lambda: geometry.segment_ids(layout.offsets, total))

    def positions(self, layout: Layout[jax.Array], total: int) -> jax.Array:
        ids = self.segment_ids(layout, total)
        return self._derived(layout, "positions", lambda: geometry.positions(layout.offsets, ids))

    def pack(self, arrays: Sequence[jax.Array]) -> jax.Array:
        return padding.pack(arrays)

    def take_rows(self, x: jax.Array, index: np.ndarray) -> jax.Array:
        return padding.take(x, index)

    def to_padded(
        self, x: jax.Array, layout: Layout[jax.Array], *, width: int, side: str, fill_value: Any
    ) -> tuple[jax.Array, jax.Array]:
        ids = self.segment_ids(layout, x.shape[0])
        return padding.to_padded(x, ids, layout.offsets, width=width, side=side, fill_value=_hashable(fill_value))

    def from_padded(
        self, padded: jax.Array, mask: jax.Array, *, capacity: int | None = None
    ) -> tuple[jax.Array, Layout[jax.Array]]:
        if capacity is None:
            host = self.to_numpy(mask)
            layout = self.layout_from_host(offsets_from_lengths(host.sum(axis=1)), like=mask)
            return padding.take_cells(padded, host), layout
        values, offsets = padding.from_padded(padded, mask, capacity=capacity)
        return values, Layout.trusted(offsets, total=capacity, max_length=mask.shape[1], tail=True)

    def repeat_rows(self, dense: jax.Array, layout: Layout[jax.Array], total: int) -> jax.Array:
        # The gradient adds up each row's elements: halves would be added in halves.
        return narrowed(reductions.repeat(widened(dense), self.segment_ids(layout, total), layout.offsets), dense)

    # ------------------------------------------------------------------ ops: computation

    def varlen_attention(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        q_layout: Layout[jax.Array],
        k_layout: Layout[jax.Array],
        *,
        causal: bool,
        scale: float,
        window: tuple[int, int],
        softcap: float | None,
        sinks: jax.Array | None,
        return_lse: bool,
    ) -> tuple[jax.Array, jax.Array | None]:
        options = {"causal": causal, "scale": scale, "window": window, "softcap": softcap}
        return attend(blocked, q, k, v, q_layout, k_layout, sinks=sinks, return_lse=return_lse, **options)

    def varlen_layernorm(
        self, x: jax.Array, weight: jax.Array | None, bias: jax.Array | None, *, eps: float
    ) -> jax.Array:
        return narrowed(norms.layernorm(widened(x), widened(weight), widened(bias), eps=eps), x)

    def varlen_rmsnorm(self, x: jax.Array, weight: jax.Array | None, *, eps: float) -> jax.Array:
        return narrowed(norms.rmsnorm(widened(x), widened(weight), eps=eps), x)

    def varlen_softmax(self, x: jax.Array, layout: Layout[jax.Array]) -> jax.Array:
        return narrowed(softmax(widened(x), *self._rows(layout, x)), x)

    def varlen_rope(
        self,
        x: jax.Array,
        cos: jax.Array,
        sin: jax.Array,
        layout: Layout[jax.Array],
        positions: jax.Array | None,
        *,
        interleaved: bool,
    ) -> jax.Array:
        positions = self.positions(layout, x.shape[0]) if positions is None else positions
        return narrowed(rope(widened(x), widened(cos), widened(sin), positions, interleaved=interleaved), x)

    def varlen_sum(self, x: jax.Array, layout: Layout[jax.Array], *, empty: Any) -> jax.Array:
        return self._reduced(reductions.row_sum, x, layout, empty)

    def varlen_mean(self, x: jax.Array, layout: Layout[jax.Array], *, empty: Any) -> jax.Array:
        return self._reduced(reductions.row_mean, x, layout, empty)

    def varlen_max(self, x: jax.Array, layout: Layout[jax.Array], *, empty: Any) -> jax.Array:
        return self._reduced(reductions.row_max, x, layout, empty)

    def varlen_min(self, x: jax.Array, layout: Layout[jax.Array], *, empty: Any) -> jax.Array:
        return self._reduced(reductions.row_min, x, layout, empty)

    def varlen_logsumexp(self, x: jax.Array, layout: Layout[jax.Array], *, empty: Any) -> jax.Array:
        return self._reduced(reductions.row_logsumexp, x, layout, empty)

    def varlen_cumsum(self, x: jax.Array, layout: Layout[jax.Array]) -> jax.Array:
        return narrowed(cumsum(widened(x), self.segment_ids(layout, x.shape[0])), x)

    def varlen_cross_entropy(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        return cross_entropy(logits, labels)

    def as_one(self, fn: Callable[..., jax.Array], arrays: tuple[Any, ...], **options: Any) -> jax.Array:
        # A number is placed explicitly, which guards of transfers let pass, and compiled for no value of its own.
        placed = [from_numpy(np.asarray(a, np.int32)) if isinstance(a, (int, np.integer)) else a for a in arrays]
        return _as_one(fn, tuple(options.items()), *placed)

    def _reduced(self, reduce: Callable[..., jax.Array], x: jax.Array, layout: Layout[jax.Array], empty: Any) -> Any:
        return narrowed(reduce(widened(x), *self._rows(layout, x), empty=_hashable(empty)), x)

    def _rows(self, layout: Layout[jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.segment_ids(layout, x.shape[0]), layout.offsets


def _hashable(number: Any) -> Any:
    """Return a number that equals itself, as the key of a compiled program must: NaN by its name."""
    return "nan" if number != number else number


@partial(jax.jit, static_argnums=(0, 1))
def _as_one(fn: Callable[..., jax.Array], options: tuple[tuple[str, Any], ...], *arrays: Any) -> jax.Array:
    return fn(namespace, *arrays, **dict(options))


@jax.jit
def _probe() -> jax.Array:
    return jnp.zeros(())
