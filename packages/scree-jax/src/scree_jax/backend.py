"""JAX's side of the contract.

Importing it registers ``scree.Array`` and ``scree.Layout`` as pytrees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scree_core.backend import Backend
from scree_core.errors import UnsupportedError
from scree_core.layout import Layout
from scree_core.protocols import Namespace
from scree_jax import namespace
from scree_jax.compiled import run_compiled
from scree_jax.convert import from_numpy
from scree_jax.pytree import register

register()


class JaxBackend(Backend[jax.Array]):
    """Ops on ``jax.Array`` and tracers.

    Under jit, ops that go row by row need offsets that aren't traced: make the Array outside and close
    over it, or make it inside from lengths that are plain numbers.
    """

    name = "jax"
    differentiates = True

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
                "pass max_length"
            )
        return np.asarray(jax.device_get(x))

    def may_cache(self, x: jax.Array) -> bool:
        # Under jit an operation on a concrete array gives a tracer; this one does nothing else.
        return not isinstance(x, jax.core.Tracer) and not isinstance(jax.device_put(x), jax.core.Tracer)

    def dtype(self, name: str) -> Any:
        return getattr(jnp, name)

    def device(self, x: jax.Array) -> str:
        if isinstance(x, jax.core.Tracer):
            return "traced"
        devices = sorted(x.devices(), key=lambda device: device.id)
        return ",".join(f"{device.platform}:{device.id}" for device in devices)

    def synchronize(self, x: Any) -> None:
        jax.block_until_ready(x)

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

    def with_vjp(
        self, fn: Callable[..., tuple[jax.Array, ...]], vjp: Callable[[Any, Any], tuple[jax.Array, ...]]
    ) -> Callable[..., tuple[jax.Array, ...]]:
        # This gives up forward mode through attention, softmax and log-sum-exp.
        custom = jax.custom_vjp(fn)
        custom.defvjp(lambda *arrays: (fn(*arrays), arrays), vjp)
        return custom

    # ------------------------------------------------------------------ layouts

    def _derived(self, layout: Layout[jax.Array], key: str, build: Callable[[], Any]) -> Any:
        if isinstance(layout.offsets, jax.core.Tracer):
            return build()

        def build_now() -> Any:
            # Under jit too, concrete offsets give concrete results: a tracer, kept, would be a leak.
            with jax.ensure_compile_time_eval():
                return build()

        return layout.derived(key, build_now)

    # ------------------------------------------------------------------ how the defaults run

    def run_reference(
        self,
        op: str,
        arrays: Sequence[jax.Array | None],
        offsets: Sequence[np.ndarray] = (),
        *options: Any,
        **named: Any,
    ) -> Any:
        return run_compiled(op, tuple(arrays), tuple(offsets), options, named)

    # ------------------------------------------------------------------ ops

    def repeat_rows(self, dense: jax.Array, layout: Layout[jax.Array], total: int) -> jax.Array:
        # The gradient adds up each row's elements: halves would be added in halves, on a GPU in any order.
        return self._narrow(super().repeat_rows(self._widen(dense), layout, total), dense)
