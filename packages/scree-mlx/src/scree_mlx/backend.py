"""MLX's side of the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from scree_core.backend import Backend
from scree_core.protocols import Namespace
from scree_mlx import namespace
from scree_mlx.convert import dtype_named, from_numpy, to_numpy


class MlxBackend(Backend[mx.array]):
    """Ops on ``mlx.core.array``, on MLX's default device.

    Nothing that derives from a layout is kept: MLX doesn't tell the arrays of a function being compiled
    from real ones. float64 works on MLX's CPU device alone.
    """

    name = "mlx"
    differentiates = True

    # ------------------------------------------------------------------ the array type

    def array_types(self) -> tuple[type, ...]:
        return (mx.array,)

    def owns(self, x: object) -> bool:
        return isinstance(x, mx.array)

    @property
    def xp(self) -> Namespace:
        return namespace

    def from_numpy(self, a: np.ndarray, *, like: mx.array | None = None) -> mx.array:
        return from_numpy(a)

    def to_numpy(self, x: mx.array) -> np.ndarray:
        return to_numpy(x)

    def dtype(self, name: str) -> mx.Dtype:
        return dtype_named(name)

    def device(self, x: mx.array) -> str:
        # Memory is shared: an array is where it is next used, which the default device decides.
        return "cpu" if mx.default_device() == mx.Device(mx.cpu, 0) else "gpu"

    def synchronize(self, x: Any) -> None:
        mx.eval(x)

    def why_not(self, op: str, /, *args: Any, **kwargs: Any) -> str | None:
        arrays = [a for a in (*args, *kwargs.values()) if isinstance(a, mx.array)]
        if any(a.dtype == mx.float64 for a in arrays) and self.device(arrays[0]) != "cpu":
            return "MLX has float64 on its CPU device alone: mx.set_default_device(mx.cpu), or cast to float32"
        return None

    def version(self) -> str:
        from importlib.metadata import version

        return version("mlx")

    def vjp(
        self, fn: Callable[..., Any], primals: tuple[mx.array, ...], cotangents: tuple[mx.array, ...]
    ) -> tuple[mx.array, ...]:
        # MLX refuses to differentiate by integers, so they are closed over.
        floating = [i for i, p in enumerate(primals) if mx.issubdtype(p.dtype, mx.floating)]
        wanted: list[int] = []

        def outputs_of(*inputs: mx.array) -> list[mx.array]:
            full = list(primals)
            for i, x in zip(floating, inputs, strict=True):
                full[i] = x
            outputs = fn(*full)
            wanted[:] = [i for i, y in enumerate(outputs) if mx.issubdtype(y.dtype, mx.floating)]
            return [outputs[i] for i in wanted]

        outputs_of(*(primals[i] for i in floating))  # only to learn which outputs have a gradient
        upstream = [cotangents[i] for i in wanted]
        found = mx.vjp(outputs_of, [primals[i] for i in floating], upstream)[1] if floating and wanted else []
        gradients = dict(zip(floating, found, strict=True))
        return tuple(gradients.get(i, mx.zeros_like(p)) for i, p in enumerate(primals))

    def with_vjp(
        self, fn: Callable[..., tuple[mx.array, ...]], vjp: Callable[[Any, Any], tuple[mx.array, ...]]
    ) -> Callable[..., tuple[mx.array, ...]]:
        custom = mx.custom_function(fn)
        # MLX hands over one array bare, and several as a tuple.
        custom.vjp(lambda primals, cotangents, outputs: vjp(_as_tuple(primals), _as_tuple(cotangents)))
        return custom  # pyrefly: ignore[bad-return]


def _as_tuple(x: Any) -> tuple[mx.array, ...]:
    return (x,) if isinstance(x, mx.array) else tuple(x)
