"""The reference on NumPy arrays: in float64 the truth, in a narrower dtype the naive arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core import reference
from scree_core.backend import Backend
from scree_core.dispatch import Call
from scree_core.protocols import Namespace


class ReferenceBackend(Backend[np.ndarray]):
    """Core's defaults on NumPy, without the wider dtype in which they compute halves."""

    name = "numpy"

    def owns(self, x: object) -> bool:
        """Tell whether ``x`` is a NumPy array."""
        return isinstance(x, np.ndarray)

    @property
    def xp(self) -> Namespace:
        """NumPy."""
        return np

    def from_numpy(self, a: np.ndarray, *, like: np.ndarray | None = None) -> np.ndarray:
        """Return the array."""
        return a

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        """Return the array."""
        return x

    def host_view(self, x: np.ndarray) -> np.ndarray:
        """Return the array."""
        return x

    def dtype(self, name: str) -> np.dtype:
        """Return NumPy's dtype, or that of ``ml_dtypes``."""
        return as_dtype(name)

    def _widen(self, x: np.ndarray) -> np.ndarray:
        return x

    def _narrow(self, out: np.ndarray, x: np.ndarray) -> np.ndarray:
        return out


def as_dtype(name: str) -> np.dtype:
    """Return the NumPy dtype of a name, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


DIFFERENTIABLE: dict[str, tuple[str, ...]] = {
    "pack": ("arrays",),
    "take_rows": ("arr",),
    "to_padded": ("arr",),
    "from_padded": ("padded",),
    "repeat_rows": ("dense",),
    "varlen_attention": ("q", "k", "v", "sinks"),
    "varlen_layernorm": ("x", "weight", "bias"),
    "varlen_rmsnorm": ("x", "weight"),
    "varlen_rope": ("x", "cos", "sin"),
    "varlen_softmax": ("x",),
    "varlen_sum": ("x",),
    "varlen_mean": ("x",),
    "varlen_max": ("x",),
    "varlen_min": ("x",),
    "varlen_logsumexp": ("x",),
    "varlen_cumsum": ("x",),
    "varlen_cross_entropy": ("logits",),
}
"""The arguments that gradients are taken of, by op, in the order in which ``gradients`` returns them."""


def gradients(call: Call, cotangents: list[np.ndarray]) -> tuple[Any, ...]:
    """Return the reference's gradients of a call on NumPy arrays, in their dtype.

    Parameters
    ----------
    call : Call
        The op as its backend would receive it.
    cotangents : list of arrays
        One for each output.

    Returns
    -------
    tuple
        In the order of ``DIFFERENTIABLE``; None for an argument that isn't given.
    """
    op, args, options = call.op, call.args, dict(call.kwargs)
    d_out = cotangents[0]
    if op in _MOVES:
        return _MOVES[op](d_out, call)
    vjp = getattr(reference, f"{op}_vjp")
    if op == "varlen_attention":
        q, k, v, q_layout, k_layout = args
        d_lse = cotangents[1] if options.pop("return_lse") else None
        return vjp(np, d_out, d_lse, q, k, v, q_layout.offsets, k_layout.offsets, **options)
    if op == "varlen_rope":
        x, cos, sin, layout, positions = args
        if positions is None:
            starts = np.repeat(layout.offsets[:-1], layout.lengths)
            positions = np.arange(x.shape[0], dtype=starts.dtype) - starts
        return vjp(np, d_out, x, cos, sin, positions, **options)
    if op in ("varlen_layernorm", "varlen_rmsnorm", "varlen_cross_entropy"):
        return vjp(np, d_out, *args, **options)
    if op == "repeat_rows":
        dense, layout, _ = args
        return vjp(np, d_out, dense, np.repeat(np.arange(layout.batch_size), layout.lengths))
    if op == "to_padded":
        x, layout = args
        return vjp(np, d_out, x, layout.offsets, options["width"], options["side"], options["fill_value"])
    x, layout = args
    return vjp(np, d_out, x, layout.offsets, *options.values())


def _pack(d_out: np.ndarray, call: Call) -> tuple[Any, ...]:
    cuts = np.cumsum([a.shape[0] for a in call.args[0]])[:-1]
    return (np.split(d_out, cuts),)


def _take_rows(d_out: np.ndarray, call: Call) -> tuple[Any, ...]:
    x, index = call.args
    dx = np.zeros(x.shape, np.float64)
    np.add.at(dx, index, d_out.astype(np.float64))
    return (dx.astype(x.dtype),)


def _from_padded(d_out: np.ndarray, call: Call) -> tuple[Any, ...]:
    padded, mask = call.args
    d_padded = np.zeros_like(padded)
    d_padded[mask] = d_out
    return (d_padded,)


_MOVES = {"pack": _pack, "take_rows": _take_rows, "from_padded": _from_padded}
