"""The gradient of attention, its gradient in turn, and attention under vmap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from scree_core import reference
from scree_core.errors import UnsupportedError
from scree_torch import namespace
from scree_torch.convert import to_numpy
from scree_torch.differentiable import Differentiable
from scree_torch.varlen_attention import operators
from scree_torch.varlen_attention.options import wide_dtype


class Attention(Differentiable):
    """The operator ``scree::varlen_attention`` with its gradient."""

    generate_vmap_rule = False

    @staticmethod
    def forward(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        q_offsets: torch.Tensor,
        k_offsets: torch.Tensor | None,
        max_q: int | None,
        max_k: int | None,
        causal: bool,
        scale: float,
        left: int,
        right: int,
        softcap: float | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output and the lse."""
        return operators.varlen_attention(
            q, k, v, q_offsets, k_offsets, max_q, max_k, causal, scale, left, right, softcap
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what the gradient needs: arrays, output and lse, but no scores."""
        q, k, v, q_offsets, k_offsets = inputs[:5]
        ctx.options = inputs[5:]
        out, lse = output
        ctx.save_for_backward(q, k, v, out, lse, q_offsets, k_offsets)
        ctx.set_materialize_grads(False)  # to see whether the lse has a gradient: most often it has none

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor | None, d_lse: torch.Tensor | None) -> Any:
        """Compute the gradients."""
        q, k, v, out, lse, q_offsets, k_offsets = ctx.saved_tensors
        if d_out is None:
            d_out = torch.zeros_like(out)
        d_q, d_k, d_v = _Backward.apply(d_out, d_lse, q, k, v, out, lse, q_offsets, k_offsets, *ctx.options)
        return d_q, d_k, d_v, None, None, None, None, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        """Compute a batch of batches on one layout as more heads."""
        folded = _folded(inputs, in_dims, info.batch_size, arrays=3)
        out, lse = Attention.apply(*folded)
        return (_unfold(out, info.batch_size), _unfold(lse, info.batch_size)), (1, 1)


# An exported program calls the operator without the class.
torch.library.register_autograd(
    "scree::varlen_attention", Attention.backward, setup_context=Attention.setup_context, lib=operators.library
)


class _Backward(Differentiable):
    """The operator ``scree::varlen_attention_backward``, whose gradient is that of the reference."""

    generate_vmap_rule = False

    @staticmethod
    def forward(
        d_out: torch.Tensor,
        d_lse: torch.Tensor | None,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        q_offsets: torch.Tensor,
        k_offsets: torch.Tensor | None,
        max_q: int | None,
        max_k: int | None,
        causal: bool,
        scale: float,
        left: int,
        right: int,
        softcap: float | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        layout = q_offsets, k_offsets, max_q, max_k
        return operators.varlen_attention_backward(
            d_out, d_lse, q, k, v, out, lse, *layout, causal, scale, left, right, softcap
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        d_out, d_lse, q, k, v, _, _, q_offsets, k_offsets = inputs[:9]
        ctx.options = inputs[11:]
        ctx.save_for_backward(d_out, d_lse, q, k, v, q_offsets, k_offsets)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        d_out, d_lse, q, k, v, q_offsets, k_offsets = ctx.saved_tensors
        q_bounds = to_numpy(q_offsets)
        k_bounds = q_bounds if k_offsets is None else to_numpy(k_offsets)

        def gradients(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return _reference_vjp(arrays, q_bounds, k_bounds, ctx.options)

        given = (d_out, *([] if d_lse is None else [d_lse]), q, k, v)
        dd_out, *dd_lse, dd_q, dd_k, dd_v = torch.func.vjp(gradients, *given)[1](cotangents)
        return dd_out, dd_lse[0] if dd_lse else None, dd_q, dd_k, dd_v, *(None,) * 11

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        found = _Backward.apply(*_folded(inputs, in_dims, info.batch_size, arrays=7))
        return tuple(_unfold(x, info.batch_size) for x in found), (1, 1, 1)


def _reference_vjp(
    arrays: Sequence[torch.Tensor], q_offsets: np.ndarray, k_offsets: np.ndarray, options: Sequence[Any]
) -> tuple[torch.Tensor, ...]:
    """Return the gradients by the reference, row by row, in operations that are differentiable themselves.

    The arrays are d_out, d_lse if there is one, q, k and v.
    """
    causal, scale, left, right, softcap = options
    dtypes, wide = [x.dtype for x in arrays], wide_dtype(arrays[0])
    d_out, *d_lse, q, k, v = (x.to(wide) for x in arrays)
    found = reference.varlen_attention_vjp(
        namespace,
        d_out,
        d_lse[0] if d_lse else None,
        q,
        k,
        v,
        q_offsets,
        k_offsets,
        causal=causal,
        scale=scale,
        window=(left, right),
        softcap=softcap,
        sinks=None,
    )
    return tuple(g.to(dtype) for g, dtype in zip(found[:3], dtypes[-3:], strict=True))


def _folded(inputs: Any, in_dims: Any, size: int, *, arrays: int) -> list[Any]:
    """Return inputs, the first of them arrays, with the mapped axis made heads."""
    if any(dim is not None for dim in in_dims[arrays:]):
        raise UnsupportedError("attention can't be vmapped over offsets; put the batches end to end: scree.concat")
    folded = (None if x is None else _fold(x, dim, size) for x, dim in zip(inputs[:arrays], in_dims, strict=False))
    return [*folded, *inputs[arrays:]]


def _fold(x: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    """Turn ``size`` times ``(total, heads, ...)`` into ``(total, size * heads, ...)``."""
    x = x.unsqueeze(1).expand(x.shape[0], size, *x.shape[1:]) if dim is None else x.movedim(dim, 1)
    return x.flatten(1, 2)


def _unfold(x: torch.Tensor, size: int) -> torch.Tensor:
    """Undo ``_fold``: ``(total, size, heads, ...)``."""
    return x.unflatten(1, (size, x.shape[1] // size))
