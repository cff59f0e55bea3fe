"""Core's reference, compiled: one program for an op and a layout, where eagerly each row length costs a dozen.

Run primitive by primitive, JAX compiles every one anew for every shape, so the row loops of the reference took
11 s for the first attention over rows of 3, 1 and 5 elements; compiled whole it takes 1.7 s (on 2 busy CPU
cores, 2026-11-22, jax 0.10.2).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from scree_core import reference
from scree_jax import namespace

HALF_DTYPES = (jax.numpy.float16, jax.numpy.bfloat16)


def run_compiled(
    op: str,
    arrays: tuple[jax.Array | None, ...],
    offsets: tuple[np.ndarray, ...],
    options: tuple[Any, ...],
    named: dict[str, Any],
) -> Any:
    """Run an op of the reference; see ``Backend.run_reference``.

    A program is compiled for each op, shapes and dtypes of the arrays, and values of offsets and options.
    """
    static = {key: value for key, value in named.items() if not isinstance(value, jax.Array)}
    traced = {key: value for key, value in named.items() if isinstance(value, jax.Array)}
    rows = tuple(tuple(host.tolist()) for host in offsets)
    return _run(op, arrays, traced, rows, options, tuple(sorted(static.items())))


@partial(jax.jit, static_argnums=(0, 3, 4, 5))
def _run(op: str, arrays: Any, traced: Any, offsets: Any, options: Any, static: Any) -> Any:
    wide = [_widened(a) for a in arrays]
    extra = {key: _widened(a) for key, a in traced.items()}
    return getattr(reference, op)(namespace, *wide, *offsets, *options, **extra, **dict(static))


def _widened(x: Any) -> Any:
    return x if x is None or x.dtype not in HALF_DTYPES else x.astype(jax.numpy.float32)
