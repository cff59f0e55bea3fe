"""PyTorch's side of the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from scree_core.backend import Backend
from scree_core.errors import UnsupportedError
from scree_core.layout import Layout, offsets_from_lengths
from scree_core.protocols import Namespace
from scree_torch import convert, namespace
from scree_torch.custom_vjp import CustomVjp
from scree_torch.tracing import PLAIN, is_real
from scree_torch.unsigned import reduce_as_int64


class TorchBackend(Backend[torch.Tensor]):
    """Ops on ``torch.Tensor`` and its subclasses, on every device, with autograd."""

    name = "torch"
    differentiates = True

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
        if not is_real(x) or x.device.type != "cpu" or x.layout != torch.strided:
            return None
        return convert.to_numpy(x)

    def may_cache(self, x: torch.Tensor) -> bool:
        # What a CUDA graph captures has no values before its replay.
        return is_real(x) and not (x.is_cuda and torch.cuda.is_current_stream_capturing())

    def dtype(self, name: str) -> torch.dtype:
        return getattr(torch, name)

    def empty_like(self, x: torch.Tensor, dtype: Any = None) -> torch.Tensor:
        return torch.empty_like(x, dtype=self.dtype(dtype) if isinstance(dtype, str) else dtype)

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

    def with_vjp(
        self, fn: Callable[..., tuple[torch.Tensor, ...]], vjp: Callable[[Any, Any], tuple[torch.Tensor, ...]]
    ) -> Callable[..., tuple[torch.Tensor, ...]]:
        return lambda *arrays: CustomVjp.apply(fn, vjp, *arrays)

    # ------------------------------------------------------------------ layouts

    def host_offsets(self, layout: Layout[torch.Tensor]) -> np.ndarray:
        if torch.compiler.is_compiling():
            # Without fullgraph this breaks the graph, and the op then runs eagerly.
            raise UnsupportedError("this op reads row boundaries on the host, which torch.compile can't trace")
        return super().host_offsets(layout)

    def _derived(self, layout: Layout[torch.Tensor], key: str, build: Callable[[], Any]) -> Any:
        if not self.may_cache(layout.offsets):
            return build()

        def build_for_autograd() -> Any:
            # An inference tensor, kept, would break the first training step that saves it for backward.
            with torch.inference_mode(False):
                return build()

        return layout.derived(key, build_for_autograd)

    # ------------------------------------------------------------------ ops

    def from_padded(
        self, padded: torch.Tensor, mask: torch.Tensor, *, capacity: int | None = None
    ) -> tuple[torch.Tensor, Layout[torch.Tensor]]:
        if capacity is not None:
            return super().from_padded(padded, mask, capacity=capacity)
        offsets = offsets_from_lengths(self.to_numpy(mask.sum(dim=1)))
        return padded[mask], self.layout_from_host(offsets, like=mask)

    def varlen_max(self, x: torch.Tensor, layout: Layout[torch.Tensor], *, empty: Any) -> torch.Tensor:
        if x.dtype in namespace.SIGNED:
            return reduce_as_int64(lambda y, e: self.varlen_max(y, layout, empty=e), x, empty)
        return super().varlen_max(x, layout, empty=empty)

    def varlen_min(self, x: torch.Tensor, layout: Layout[torch.Tensor], *, empty: Any) -> torch.Tensor:
        if x.dtype in namespace.SIGNED:
            return reduce_as_int64(lambda y, e: self.varlen_min(y, layout, empty=e), x, empty)
        return super().varlen_min(x, layout, empty=empty)
