"""In which dtype and precision ops compute: halves in float32, anything else in its own.

Casts are no part of the ops' programs, so that float16, bfloat16 and float32 share one; in a jitted function they
are compiled into what surrounds them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

HALF_DTYPES = (jnp.float16, jnp.bfloat16)


def widened(x: Any) -> Any:
    """Return a half-precision array in float32; any other array, and None, as it is."""
    return x.astype(jnp.float32) if x is not None and x.dtype in HALF_DTYPES else x


def narrowed(out: jax.Array, x: jax.Array) -> jax.Array:
    """Return a result in half precision if the input ``x`` was in it."""
    return out.astype(x.dtype) if x.dtype in HALF_DTYPES else out


def matmul_precision() -> str | None:
    """Return the precision to multiply matrices in: that of their dtype, unless the user has chosen another.

    JAX by itself multiplies float32 in TF32 on a GPU and in bfloat16 on a TPU, a thousand times coarser.
    Who has set ``jax_default_matmul_precision`` is obeyed.
    """
    chosen = jax.config.jax_default_matmul_precision  # pyrefly: ignore[missing-attribute]
    return "highest" if chosen is None else None
