"""Make the small arrays that a formula needs, so that they fit the arrays it is applied to."""

from __future__ import annotations

from typing import Any

from scree_core.protocols import Namespace


def constant(xp: Namespace, value: Any, like: Any) -> Any:
    """Return ``value`` as an array of shape ``()`` in the dtype of ``like``.

    A Python number would do for most dtypes, but ``ml_dtypes.bfloat16`` combined with one gives float32.
    It is on the library's default device: an array of shape ``()`` combines with those of any other.
    """
    return xp.full((), value, dtype=like.dtype)


def arange_like(xp: Namespace, count: int, dtype: Any, like: Any) -> Any:
    """Return ``0, 1, ..., count - 1`` in ``dtype``, on the device of ``like``."""
    device = getattr(like, "device", None)  # JAX tracers and MLX arrays have none, and need none
    return xp.arange(count, dtype=dtype) if device is None else xp.arange(count, dtype=dtype, device=device)


def matmul(xp: Namespace, a: Any, b: Any) -> Any:
    """Return ``a @ b`` over the last two axes, in the dtype of ``a``; leading axes broadcast.

    NumPy has no matmul for ``ml_dtypes.bfloat16`` and answers in float32, so the result is rounded back: a
    float32 accumulator, which is also what NumPy has for float16 and what tensor cores have for both.
    """
    return xp.astype(xp.matmul(a, b), a.dtype)
