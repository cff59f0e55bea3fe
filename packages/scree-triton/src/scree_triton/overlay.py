"""The ops that run as Triton kernels, in front of PyTorch's own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import torch

from scree_core.errors import UnsupportedError
from scree_core.layout import INT32_MAX, Layout
from scree_core.overlay import Overlay
from scree_core.tune import Tuning
from scree_torch.tracing import in_transform, is_real
from scree_triton.switches import is_on

INTERPRETED = is_on("TRITON_INTERPRET")
"""Whether kernels run in Triton's interpreter, on any device: slow, for tests and debuggers."""

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WIDEST = 256
"""The largest head_dim that fits into a multiprocessor."""


class TritonOverlay(Overlay):
    """Kernels for tensors on CUDA devices; those of AMD are such too."""

    name = "torch.triton"
    priority = 10
    named_only = INTERPRETED

    def why_not(self, op: str, /, *args: Any, **kwargs: Any) -> str | None:
        """Return why no kernel runs this call: first what its user can mend, last what is missing here."""
        # One device is enough to ask for: core has checked that all arrays are on it.
        reason = _missing or _why_not_there(args[0] if isinstance(args[0], torch.Tensor) else args[0][0])
        if reason is not None:
            return reason
        if not hasattr(self, op):
            return f"scree-triton has no kernel for {op}"
        if op == "varlen_attention":
            return _why_not_attention(*args[:3])
        return _why_not_plain(args[0]) or _WHY_NOT.get(op, _why_not_dtype)(args[0])

    def version(self) -> str:
        """Return the version of Triton, or ``"not installed"``; doesn't import it."""
        try:
            return importlib.metadata.version("triton")
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    def bind(self, op: str, /, *args: Any, **kwargs: Any) -> Callable[..., Any] | None:
        if op != "varlen_attention":
            return None
        from scree_torch.varlen_attention import Options
        from scree_triton.attention.entry import program_for

        options = Options(*(kwargs[name] for name in Options._fields))
        sinks, return_lse = kwargs["sinks"], kwargs["return_lse"]
        return program_for(*args, sinks, options, return_lse=return_lse)  # pyrefly: ignore[bad-argument-count]

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
        from scree_torch.varlen_attention import Options
        from scree_triton.attention.entry import varlen_attention

        options = Options(causal, scale, window, softcap)
        return varlen_attention(q, k, v, q_layout, k_layout, sinks, options, return_lse=return_lse)

    def tune(self, op: str, /, *args: Any, gradient: bool, **kwargs: Any) -> Tuning:
        """Measure tiles for a checked call of attention, and keep the best: see ``scree_triton.attention.tuning``."""
        if op != "varlen_attention":
            raise UnsupportedError(
                f"backend {self.name!r} has nothing to tune in {op}: its sizes follow from the input. "
                "What has tiles to choose from is varlen_attention"
            )
        if INTERPRETED:
            raise UnsupportedError(
                "Triton's interpreter tells nothing of a GPU's times: unset TRITON_INTERPRET to tune"
            )
        from scree_torch.varlen_attention import Options
        from scree_triton.attention.tuning import tune

        q, k, v, q_layout, k_layout = args
        sinks, want_lse = kwargs.pop("sinks"), kwargs.pop("return_lse")
        return tune(q, k, v, q_layout, k_layout, sinks, Options(**kwargs), want_lse=want_lse, gradient=gradient)

    def to_padded(
        self, x: torch.Tensor, layout: Layout[torch.Tensor], *, width: int, side: str, fill_value: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from scree_triton.padding import to_padded

        return to_padded(x, layout, width=width, side=side, fill_value=fill_value)

    def from_padded(
        self, padded: torch.Tensor, mask: torch.Tensor, *, capacity: int | None = None
    ) -> tuple[torch.Tensor, Layout[torch.Tensor]]:
        from scree_triton.padding import from_padded

        return from_padded(padded, mask, capacity=capacity)

    def varlen_layernorm(
        self, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, eps: float
    ) -> torch.Tensor:
        from scree_triton.norms import varlen_layernorm

        return varlen_layernorm(x, weight, bias, eps=eps)

    def varlen_rmsnorm(self, x: torch.Tensor, weight: torch.Tensor | None, *, eps: float) -> torch.Tensor:
        from scree_triton.norms import varlen_rmsnorm

        return varlen_rmsnorm(x, weight, eps=eps)

    def varlen_softmax(self, x: torch.Tensor, layout: Layout[torch.Tensor]) -> torch.Tensor:
        from scree_triton.softmax import varlen_softmax

        return varlen_softmax(x, layout)

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
        from scree_triton.rope import varlen_rope

        return varlen_rope(x, cos, sin, positions, layout, interleaved=interleaved)

    def varlen_cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from scree_triton.cross_entropy import varlen_cross_entropy

        return varlen_cross_entropy(logits, labels)


def why_missing() -> str | None:
    """Return why Triton isn't here."""
    if not sys.platform.startswith("linux"):
        return f"Triton needs Linux, this is {sys.platform}"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    return None


_missing = why_missing()


def _why_not_there(x: torch.Tensor) -> str | None:
    """Return what is wrong with where a tensor is."""
    if INTERPRETED:
        return None
    if x.device.type != "cuda":
        return f"values are on {x.device.type}, need cuda"
    if _capability(x.device) < (8, 0):
        return "the GPU's compute capability is {}.{}, need 8.0".format(*_capability(x.device))
    return None


_capabilities: dict[torch.device, tuple[int, int]] = {}


def _capability(device: torch.device) -> tuple[int, int]:
    found = _capabilities.get(device)
    if found is None:
        found = _capabilities[device] = torch.cuda.get_device_capability(device)
    return found


def _why_not_plain(x: torch.Tensor) -> str | None:
    """Return why an op can't run that is a kernel, but no operator of PyTorch."""
    if torch.compiler.is_compiling():
        return "torch.compile makes kernels of PyTorch's own"
    if not is_real(x):
        return "the kernel runs on plain tensors, outside transforms and traces"
    return None


def _why_not_copied(x: torch.Tensor) -> str | None:
    return "it copies no complex numbers" if x.is_complex() else None


def _why_not_dtype(x: torch.Tensor) -> str | None:
    if x.dtype not in DTYPES:
        return f"it computes float16, bfloat16 and float32, not {str(x.dtype).removeprefix('torch.')}"
    return None


def _why_not_losses(logits: torch.Tensor) -> str | None:
    if logits.dtype not in (*DTYPES, torch.float64):
        return f"it computes float16, bfloat16, float32 and float64, not {str(logits.dtype).removeprefix('torch.')}"
    return None


_WHY_NOT = {"to_padded": _why_not_copied, "from_padded": _why_not_copied, "varlen_cross_entropy": _why_not_losses}
"""What tells of dtypes, where that is not ``_why_not_dtype``."""


def _why_not_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> str | None:
    if not torch.compiler.is_compiling() and in_transform():
        return "kernels run outside the transforms of torch.func"
    if (reason := _why_not_dtype(q)) is not None:
        return reason
    if max(q.shape[2], v.shape[2]) > WIDEST:
        return f"head_dim must be at most {WIDEST}, not {max(q.shape[2], v.shape[2])}"
    if max(q.shape[0], k.shape[0]) > INT32_MAX:
        return "there must be less than 2**31 elements"
    return None
