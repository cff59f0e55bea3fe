"""MLX's side of the contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from scree_core.backend import Backend
from scree_core.layout import Layout, check_offsets, check_total
from scree_core.protocols import Namespace
from scree_mlx import namespace, padding, rectangles, reductions
from scree_mlx.attention_on_rectangles import Options
from scree_mlx.convert import dtype_named, from_numpy, to_numpy
from scree_mlx.cross_entropy import cross_entropy
from scree_mlx.moving import gather
from scree_mlx.segments import repeat, segment_ids
from scree_mlx.varlen_attention import varlen_attention
from scree_mlx.varlen_cumsum import varlen_cumsum


class MlxBackend(Backend[mx.array]):
    """Ops on ``mlx.core.array``, on MLX's default device.

    Lazy, but for two things that read values: attention and the running sum of floats read the offsets of a layout
    that only the device knows, once; and attention on a CPU computes at once, in NumPy. Kept with a layout is only
    what was computed on the host: MLX doesn't tell the arrays of a function being compiled from real ones. float64
    works on MLX's CPU device alone.

    The rotary embedding is core's formula: ``mx.fast.rope`` makes its own angles, the contract brings them.
    """

    name = "mlx"
    immutable = True
    differentiates = True
    takes_tail = True

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
        return mx.default_device().type.name

    def split(self, x: mx.array, bounds: Sequence[int], axis: int) -> Sequence[mx.array]:
        return list(mx.split(x, list(bounds[1:]), axis=axis))[:-1]  # the last lies behind all rows

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

    # ------------------------------------------------------------------ layouts

    def host_offsets(self, layout: Layout[mx.array]) -> np.ndarray:
        def read() -> np.ndarray:
            host = to_numpy(layout.offsets)
            check_offsets(host)
            if layout.total is not None:
                check_total(host, layout.total, "the number of elements", layout.tail)
            return host

        # In NumPy they may be kept, whatever is being transformed.
        return layout.derived("host_offsets", read) if layout.host is None else layout.host

    # ------------------------------------------------------------------ ops: where things sit

    def segment_ids(self, layout: Layout[mx.array], total: int) -> mx.array:
        return segment_ids(layout.offsets, total).astype(layout.offsets.dtype)

    def pack(self, arrays: Sequence[mx.array]) -> mx.array:
        return mx.concatenate(list(arrays))

    def take_rows(self, x: mx.array, index: np.ndarray) -> mx.array:
        return gather(x, self.from_numpy(index))

    def to_padded(
        self, x: mx.array, layout: Layout[mx.array], *, width: int, side: str, fill_value: Any
    ) -> tuple[mx.array, mx.array]:
        return padding.to_padded(x, layout, width, side, fill_value)

    def from_padded(
        self, padded: mx.array, mask: mx.array, *, capacity: int | None = None
    ) -> tuple[mx.array, Layout[mx.array]]:
        if capacity is not None:
            return padding.from_padded_with_capacity(padded, mask, capacity)
        values, offsets = padding.from_padded(padded, mask, self.to_numpy(mask))
        return values, self.layout_from_host(offsets, like=mask)

    def repeat_rows(self, dense: mx.array, layout: Layout[mx.array], total: int) -> mx.array:
        return repeat(dense, segment_ids(layout.offsets, total))

    # ------------------------------------------------------------------ ops: computation

    def varlen_attention(
        self,
        q: mx.array,
        k: mx.array,
        v: mx.array,
        q_layout: Layout[mx.array],
        k_layout: Layout[mx.array],
        *,
        causal: bool,
        scale: float,
        window: tuple[int, int],
        softcap: float | None,
        sinks: mx.array | None,
        return_lse: bool,
    ) -> tuple[mx.array, mx.array | None]:
        options = Options(causal, scale, window, softcap)
        return varlen_attention(
            q, k, v, q_layout, k_layout, self.host_offsets, sinks=sinks, options=options, return_lse=return_lse
        )

    def varlen_layernorm(self, x: mx.array, weight: mx.array | None, bias: mx.array | None, *, eps: float) -> mx.array:
        # mx.fast computes float64 in float32; on CUDA it fails on nothing, and its gradient is wrong for odd widths.
        if x.dtype == mx.float64 or x.size == 0 or (x.shape[-1] % 8 and mx.cuda.is_available()):
            return super().varlen_layernorm(x, weight, bias, eps=eps)
        return self._narrow(mx.fast.layer_norm(x, weight, bias, eps), x)

    def varlen_rmsnorm(self, x: mx.array, weight: mx.array | None, *, eps: float) -> mx.array:
        if x.dtype == mx.float64 or x.size == 0:
            return super().varlen_rmsnorm(x, weight, eps=eps)
        return self._narrow(mx.fast.rms_norm(x, weight, eps), x)

    def varlen_softmax(self, x: mx.array, layout: Layout[mx.array]) -> mx.array:
        return self._narrow(reductions.varlen_softmax(self._widen(x), layout.offsets), x)

    def varlen_sum(self, x: mx.array, layout: Layout[mx.array], *, empty: Any) -> mx.array:
        return self._narrow(reductions.varlen_sum(self._widen(x), layout.offsets, empty), x)

    def varlen_mean(self, x: mx.array, layout: Layout[mx.array], *, empty: Any) -> mx.array:
        return self._narrow(reductions.varlen_mean(self._widen(x), layout.offsets, empty), x)

    def varlen_max(self, x: mx.array, layout: Layout[mx.array], *, empty: Any) -> mx.array:
        return self._narrow(reductions.varlen_max(self._widen(x), layout.offsets, empty), x)

    def varlen_min(self, x: mx.array, layout: Layout[mx.array], *, empty: Any) -> mx.array:
        return self._narrow(reductions.varlen_min(self._widen(x), layout.offsets, empty), x)

    def varlen_logsumexp(self, x: mx.array, layout: Layout[mx.array], *, empty: Any) -> mx.array:
        return self._narrow(reductions.varlen_logsumexp(self._widen(x), layout.offsets, empty), x)

    def varlen_cumsum(self, x: mx.array, layout: Layout[mx.array]) -> mx.array:
        def laid_out() -> rectangles.Rectangles:
            return rectangles.of_layout(layout, x.shape[0], self.host_offsets, "varlen_cumsum")

        return self._narrow(varlen_cumsum(self._widen(x), layout.offsets, laid_out), x)

    def varlen_cross_entropy(self, logits: mx.array, labels: mx.array) -> mx.array:
        return cross_entropy(logits, labels)
