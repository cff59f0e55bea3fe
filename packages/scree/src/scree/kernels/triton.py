"""The Triton kernels on raw tensors: packed values and FlashAttention's ``cu_seqlens``, without Arrays.

Importable everywhere and without importing torch or Triton; where they are missing, a call says what to install.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import scree

if TYPE_CHECKING:
    import torch

__all__ = [
    "TRITON_AVAILABLE",
    "varlen_attention_triton",
    "varlen_attention_triton_autograd",
    "varlen_layernorm_triton",
    "varlen_rmsnorm_triton",
]

NEEDED = ("torch", "triton", "scree_triton")

TRITON_AVAILABLE: bool = all(find_spec(name) is not None for name in NEEDED)
"""Whether the kernels are installed; whether they can run a call, the call tells (they need CUDA tensors)."""


def varlen_attention_triton(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    causal: bool = False,
    return_lse: bool = False,
    out: torch.Tensor | None = None,
    lse_buffer: torch.Tensor | None = None,
) -> Any:
    """Attend from each row's queries to that row's keys, on packed tensors.

    Parameters
    ----------
    q : torch.Tensor of shape (total, heads, head_dim)
    k : torch.Tensor of shape (total, kv_heads, head_dim)
    v : torch.Tensor of shape (total, kv_heads, head_dim_v)
    cu_seqlens : torch.Tensor of shape (batch + 1,), int32 or int64
        Cumulative row lengths from 0 to ``total``, on the same device.
    causal : bool, default False
        A query sees no key behind its own position.
    return_lse : bool, default False
        Return the log-sum-exp of the scores too.
    out : torch.Tensor of shape (total, heads, head_dim_v), optional
        Takes the output, and is returned in its place.
    lse_buffer : torch.Tensor of shape (total, heads), optional
        Takes the log-sum-exp whether or not it is returned.

    Returns
    -------
    out : torch.Tensor of shape (total, heads, head_dim_v)
        In the dtype of q.
    lse : torch.Tensor of shape (total, heads)
        Only with ``return_lse``. float32, natural logarithm; FlashAttention's is its transpose.

    Raises
    ------
    BackendNotInstalledError
        Triton, PyTorch or scree-triton isn't installed.
    UnsupportedError
        The kernels can't run this call; the message has the reason.
    ShapeError
        Shapes or dtypes don't fit, those of the buffers included. Nothing has run then.

    Notes
    -----
    ``scree.varlen_attention(..., backend="triton")``, with one more copy where a buffer is given.
    """
    _require_triton()
    arr = scree.from_cu_seqlens(q, cu_seqlens)
    _check_buffer("out", out, (*q.shape[:-1], v.shape[-1]), q)
    _check_buffer("lse_buffer", lse_buffer, tuple(q.shape[:-1]), None)
    result = scree.varlen_attention(
        arr,
        arr.with_values(k),
        arr.with_values(v),
        causal=causal,
        return_lse=return_lse or lse_buffer is not None,
        backend="triton",
    )
    if not isinstance(result, tuple):
        return _into(out, result.values)
    filled, lse = _into(out, result[0].values), _into(lse_buffer, result[1].values)
    return (filled, lse) if return_lse else filled


def varlen_attention_triton_autograd(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, causal: bool = False
) -> torch.Tensor:
    """Attend from each row's queries to that row's keys, with gradients for q, k and v.

    Parameters, result and errors are those of ``varlen_attention_triton``.
    """
    return varlen_attention_triton(q, k, v, cu_seqlens, causal)


def varlen_rmsnorm_triton(x: torch.Tensor, weight: torch.Tensor | None = None, eps: float = 1e-6) -> torch.Tensor:
    """Divide by the root mean square over the last axis, then scale.

    Parameters
    ----------
    x : torch.Tensor of shape (total, ..., features)
    weight : torch.Tensor of shape (features,), optional
    eps : float, default 1e-6

    Returns
    -------
    torch.Tensor
        In the shape and dtype of x.

    Raises
    ------
    BackendNotInstalledError, UnsupportedError, ShapeError
        As for ``varlen_attention_triton``.

    Notes
    -----
    ``scree.varlen_rmsnorm(..., backend="triton")``.
    """
    _require_triton()
    return scree.varlen_rmsnorm(_one_row(x), weight, eps=eps, backend="triton").values


def varlen_layernorm_triton(
    x: torch.Tensor, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None, eps: float = 1e-5
) -> torch.Tensor:
    """Normalise to mean 0 and variance 1 over the last axis, then scale and shift.

    Parameters
    ----------
    x : torch.Tensor of shape (total, ..., features)
    weight, bias : torch.Tensor of shape (features,), optional
    eps : float, default 1e-5

    Returns
    -------
    torch.Tensor
        In the shape and dtype of x.

    Raises
    ------
    BackendNotInstalledError, UnsupportedError, ShapeError
        As for ``varlen_attention_triton``.

    Notes
    -----
    ``scree.varlen_layernorm(..., backend="triton")``.
    """
    _require_triton()
    return scree.varlen_layernorm(_one_row(x), weight, bias, eps=eps, backend="triton").values


def _require_triton() -> None:
    if not TRITON_AVAILABLE:
        missing = [name.replace("_", "-") for name in NEEDED if find_spec(name) is None]
        raise scree.BackendNotInstalledError(
            f"scree.kernels.triton needs what is not installed: {', '.join(missing)}.\n"
            '    pip install "scree[torch,triton]"'
        )


def _one_row(x: torch.Tensor) -> scree.Array[torch.Tensor]:
    """Wrap values that are normalised element by element, so that rows don't matter."""
    return scree.from_lengths(x, [x.shape[0]])


def _check_buffer(name: str, buffer: Any, shape: tuple[int, ...], like: torch.Tensor | None) -> None:
    if buffer is None:
        return
    if tuple(buffer.shape) != tuple(shape):
        raise scree.ShapeError(f"{name} must have shape {tuple(shape)}, got {tuple(buffer.shape)}")
    if like is not None and buffer.dtype != like.dtype:
        raise scree.ShapeError(f"{name} must have the dtype of q, {like.dtype}, got {buffer.dtype}")


def _into(buffer: torch.Tensor | None, values: torch.Tensor) -> torch.Tensor:
    return values if buffer is None else buffer.copy_(values)
