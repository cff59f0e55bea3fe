"""PyTorch's side of the contract."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch

from scree_core.backend import Backend
from scree_core.errors import UnsupportedError
from scree_core.layout import INT32_MAX, Layout, offsets_from_lengths
from scree_core.protocols import Namespace
from scree_torch import convert, namespace, norms, rectangles, reductions, segments
from scree_torch.pytree import register
from scree_torch.tracing import PLAIN, is_real, settled
from scree_torch.unsigned import reduce_as_int64
from scree_torch.varlen_attention import Options, needs_lengths, varlen_attention
from scree_torch.varlen_cross_entropy import varlen_cross_entropy
from scree_torch.varlen_cumsum import varlen_cumsum
from scree_torch.varlen_rope import varlen_rope
from scree_torch.varlen_softmax import varlen_logsumexp, varlen_softmax

register()

_NAMES = {dtype: str(dtype).removeprefix("torch.") for dtype in (torch.float16, torch.bfloat16, torch.float32)}
"""Names of the usual dtypes, which every op asks for; making one takes a microsecond."""


class TorchBackend(Backend[torch.Tensor]):
    """Ops on ``torch.Tensor`` and its subclasses, on every device, with autograd."""

    name = "torch"
    differentiates = True
    takes_tail = True

    # ------------------------------------------------------------------ the array type

    def array_types(self) -> tuple[type, ...]:
        return PLAIN

    def owns(self, x: object) -> bool:
        return isinstance(x, torch.Tensor)

    @property
    def xp(self) -> Namespace:
        return namespace

    def from_numpy(self, a: np.ndarray, *, like: torch.Tensor | None = None) -> torch.Tensor:
        return convert.from_numpy(a, None if like is None else like.device)

    def to_numpy(self, x: torch.Tensor) -> np.ndarray:
        return convert.to_numpy(x)

    def host_view(self, x: torch.Tensor) -> np.ndarray | None:
        if x.is_cuda or not is_real(x) or x.device.type != "cpu" or x.layout != torch.strided:
            return None
        return convert.to_numpy(x)

    def may_cache(self, x: torch.Tensor) -> bool:
        # What a CUDA graph captures has no values before its replay.
        return is_real(x) and not (x.is_cuda and torch.cuda.is_current_stream_capturing())

    def form(self, *arrays: torch.Tensor) -> Hashable | None:
        if not settled():
            return None
        found: tuple[Hashable, ...] = ()
        for x in arrays:
            if type(x) not in PLAIN or x.layout is not torch.strided:
                return None
            found += (x.dtype, x.device, x.shape, x.stride(), x.data_ptr() % 16)
        return found

    def dtype(self, name: str) -> torch.dtype:
        return getattr(torch, name)

    def dtype_name(self, x: torch.Tensor) -> str:
        return _NAMES.get(x.dtype) or super().dtype_name(x)

    def empty_like(self, x: torch.Tensor, dtype: Any = None) -> torch.Tensor:
        return torch.empty_like(x, dtype=self.dtype(dtype) if isinstance(dtype, str) else dtype)

    def split(self, x: torch.Tensor, bounds: Sequence[int], axis: int) -> Sequence[torch.Tensor]:
        # One call makes all views, and one copy their gradient; each slice's would be as large as x.
        lengths = [stop - start for start, stop in itertools.pairwise(bounds)]
        return torch.split(x, [*lengths, x.shape[axis] - bounds[-1]], dim=axis)[:-1]

    def device(self, x: torch.Tensor) -> str:
        return str(x.device)

    def beside(self, x: torch.Tensor, y: torch.Tensor) -> bool:
        return x.device == y.device

    def synchronize(self, x: Any) -> None:
        tensors = [y for y in (x if isinstance(x, (tuple, list)) else (x,)) if isinstance(y, torch.Tensor)]
        for device in {y.device for y in tensors if y.device.type not in ("cpu", "meta")}:
            torch.accelerator.synchronize(device)

    def vjp(
        self,
        fn: Callable[..., Any],
        primals: tuple[torch.Tensor, ...],
        cotangents: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, ...]:
        with torch.enable_grad():
            inputs = tuple(p.detach().requires_grad_(p.is_floating_point()) for p in primals)
            pairs = [(y, d) for y, d in zip(fn(*inputs), cotangents, strict=True) if y.requires_grad]
            wanted = [p for p in inputs if p.requires_grad]
            outputs, upstream = [y for y, _ in pairs], [d for _, d in pairs]
            found = torch.autograd.grad(outputs, wanted, upstream, allow_unused=True) if pairs else ()
        gradients = dict(zip(map(id, wanted), found, strict=False))
        return tuple(
            torch.zeros_like(p) if gradients.get(id(x)) is None else gradients[id(x)]
            for p, x in zip(primals, inputs, strict=True)
        )

    # ------------------------------------------------------------------ layouts

    def host_offsets(self, layout: Layout[torch.Tensor]) -> np.ndarray:
        if torch.compiler.is_compiling():
            # Without fullgraph this breaks the graph, and the op then runs eagerly.
            raise UnsupportedError("this op reads row boundaries on the host, which torch.compile can't trace")
        return super().host_offsets(layout)

    def layout_from_lengths(self, lengths: Sequence[int], *, like: torch.Tensor) -> Layout[torch.Tensor]:
        if not torch.compiler.is_compiling():
            return super().layout_from_lengths(lengths, like=like)
        bounds: list[int] = [0]  # symbols: NumPy can't add them up
        longest: Any = 0
        # TorchDynamo makes max symbolic by itself; sym_max of plain numbers it can't trace before PyTorch 2.12.
        larger = max if torch.compiler.is_dynamo_compiling() else torch.sym_max
        for length in lengths:
            bounds.append(bounds[-1] + length)
            longest = larger(longest, length)
        dtype = torch.int32 if bounds[-1] <= INT32_MAX else torch.int64
        offsets = torch.tensor(bounds, dtype=dtype, device=like.device)
        return Layout.trusted(offsets, total=bounds[-1], max_length=longest)  # pyrefly: ignore[bad-argument-type]

    def _derived(self, layout: Layout[torch.Tensor], key: str, build: Callable[[], Any]) -> Any:
        if not self.may_cache(layout.offsets):
            return build()

        def build_for_autograd() -> Any:
            # An inference tensor, kept, would break the first training step that saves it for backward.
            with torch.inference_mode(False):
                return build()

        return layout.derived(key, build_for_autograd)

    # ------------------------------------------------------------------ ops: where things sit

    def segment_ids(self, layout: Layout[torch.Tensor], total: int) -> torch.Tensor:
        return self._derived(layout, "segment_ids", lambda: segments.segment_ids(layout.offsets, total))

    def positions(self, layout: Layout[torch.Tensor], total: int) -> torch.Tensor:
        def build() -> torch.Tensor:
            return segments.positions(layout.offsets, self.segment_ids(layout, total), tail=layout.tail)

        return self._derived(layout, "positions", build)

    def _segments(self, layout: Layout[torch.Tensor], total: int) -> segments.Segments:
        def build() -> segments.Segments:
            ids, at = self.segment_ids(layout, total), self.positions(layout, total)
            return segments.segments(layout.offsets, ids, at, layout.max_length, tail=layout.tail)

        return self._derived(layout, "segments", build)

    def to_padded(
        self, x: torch.Tensor, layout: Layout[torch.Tensor], *, width: int, side: str, fill_value: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ids, at = self.segment_ids(layout, x.shape[0]), self.positions(layout, x.shape[0])
        cell, mask = rectangles.cells(layout.offsets, ids, at, width, side, tail=layout.tail)
        padded = rectangles.spread(x, cell, layout.batch_size * width, fill_value, tail=layout.tail)
        return padded.reshape(layout.batch_size, width, *x.shape[1:]), mask

    def from_padded(
        self, padded: torch.Tensor, mask: torch.Tensor, *, capacity: int | None = None
    ) -> tuple[torch.Tensor, Layout[torch.Tensor]]:
        if capacity is None and torch.compiler.is_compiling():
            raise UnsupportedError(
                "from_padded reads on the host how many elements the mask has, which torch.compile can't trace; "
                "give their largest number, scree.from_padded(..., capacity=...)"
            )
        if capacity is not None and self.host_view(mask) is not None:
            return super().from_padded(padded, mask, capacity=capacity)  # checks that they fit
        counts = mask.sum(dim=1)
        if capacity is None:
            host = offsets_from_lengths(self.to_numpy(counts))
            layout, total = self.layout_from_host(host, like=mask), int(host[-1])
        else:
            dtype = torch.int32 if mask.numel() <= INT32_MAX else torch.int64
            offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(dtype)
            layout, total = Layout.trusted(offsets, total=capacity, max_length=mask.shape[1], tail=True), capacity
        cell = rectangles.true_cells(mask, total)
        return rectangles.collect(padded.flatten(0, 1), cell, tail=layout.tail), layout

    def repeat_rows(self, dense: torch.Tensor, layout: Layout[torch.Tensor], total: int) -> torch.Tensor:
        return reductions.repeat_rows(dense, self._segments(layout, total))

    # ------------------------------------------------------------------ ops: computation

    def varlen_attention(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        q_layout: Layout[torch.Tensor],
        k_layout: Layout[torch.Tensor],
        *,
        causal: bool,
        scale: float,
        window: tuple[int, int],
        softcap: float | None,
        sinks: torch.Tensor | None,
        return_lse: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        options = Options(causal, scale, window, softcap)
        measured = not torch.compiler.is_compiling() and needs_lengths(q, v, options)
        max_q, max_k = (self._longest(layout, measured) for layout in (q_layout, k_layout))
        layout = q_layout.offsets, k_layout.offsets, max_q, max_k
        out, lse = varlen_attention(q, k, v, *layout, sinks, options, tail=q_layout.tail)
        return out, lse if return_lse else None

    def _longest(self, layout: Layout[torch.Tensor], measured: bool) -> int | None:
        """Return a bound of the row lengths; if need be by reading the offsets, once for each layout."""
        if layout.max_length is not None or not measured:
            return layout.max_length
        return int(np.diff(self.host_offsets(layout)).max(initial=0))

    def varlen_layernorm(
        self, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, eps: float
    ) -> torch.Tensor:
        return norms.varlen_layernorm(x, weight, bias, eps=eps)

    def varlen_rmsnorm(self, x: torch.Tensor, weight: torch.Tensor | None, *, eps: float) -> torch.Tensor:
        return norms.varlen_rmsnorm(x, weight, eps=eps)

    def varlen_softmax(self, x: torch.Tensor, layout: Layout[torch.Tensor]) -> torch.Tensor:
        return varlen_softmax(x, self._segments(layout, x.shape[0]))

    def varlen_rope(
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        layout: Layout[torch.Tensor],
        positions: torch.Tensor | None,
        *,
        interleaved: bool,
    ) -> torch.Tensor:
        if positions is None:
            positions = self.positions(layout, x.shape[0])
        elif layout.tail:  # where it may hold anything
            positions = positions * (self.segment_ids(layout, x.shape[0]) < layout.batch_size)
        return varlen_rope(x, cos, sin, positions, interleaved=interleaved)

    def varlen_sum(self, x: torch.Tensor, layout: Layout[torch.Tensor], *, empty: Any) -> torch.Tensor:
        return self._fill_empty(reductions.row_sum(x, self._segments(layout, x.shape[0])), layout, empty)

    def varlen_mean(self, x: torch.Tensor, layout: Layout[torch.Tensor], *, empty: Any) -> torch.Tensor:
        total = reductions.row_sum(reductions.widened(x), self._segments(layout, x.shape[0]))
        count = layout.lengths.clamp(min=1).reshape(-1, *(1 for _ in x.shape[1:]))
        return self._fill_empty((total / count).to(x.dtype), layout, empty)

    def varlen_max(self, x: torch.Tensor, layout: Layout[torch.Tensor], *, empty: Any) -> torch.Tensor:
        return self._extreme(x, layout, empty, "amax")

    def varlen_min(self, x: torch.Tensor, layout: Layout[torch.Tensor], *, empty: Any) -> torch.Tensor:
        return self._extreme(x, layout, empty, "amin")

    def _extreme(self, x: torch.Tensor, layout: Layout[torch.Tensor], empty: Any, reduce: str) -> torch.Tensor:
        if x.dtype in namespace.SIGNED:
            return reduce_as_int64(lambda y, e: self._extreme(y, layout, e, reduce), x, empty)
        return self._fill_empty(reductions.row_extreme(x, self._segments(layout, x.shape[0]), reduce), layout, empty)

    def varlen_logsumexp(self, x: torch.Tensor, layout: Layout[torch.Tensor], *, empty: Any) -> torch.Tensor:
        return self._fill_empty(varlen_logsumexp(x, self._segments(layout, x.shape[0])), layout, empty)

    def _fill_empty(self, out: torch.Tensor, layout: Layout[torch.Tensor], empty: Any) -> torch.Tensor:
        is_empty = (layout.lengths == 0).reshape(-1, *(1 for _ in out.shape[1:]))
        return out.masked_fill(is_empty, empty)

    def varlen_cumsum(self, x: torch.Tensor, layout: Layout[torch.Tensor]) -> torch.Tensor:
        ids, at = self.segment_ids(layout, x.shape[0]), self.positions(layout, x.shape[0])
        return varlen_cumsum(x, layout.offsets, ids, at, layout.max_length, tail=layout.tail)

    def varlen_cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return varlen_cross_entropy(logits, labels)
