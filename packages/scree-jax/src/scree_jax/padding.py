"""Between rows that lie packed and rows that lie on a rectangle.

Every element goes to one place and comes from one place, so that the gradient of each gather is the gather back.
All is one program for a shape, whatever the offsets and the mask. Exact, in any dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scree_core.layout import INT32_MAX
from scree_jax import aligned
from scree_jax.convert import from_numpy
from scree_jax.geometry import positions, segment_ids
from scree_jax.linear import with_transpose
from scree_jax.precision import widened


@partial(jax.jit, static_argnames=("width", "side", "fill_value"))
def to_padded(
    x: jax.Array, segment_ids: jax.Array, offsets: jax.Array, *, width: int, side: str, fill_value: Any
) -> tuple[jax.Array, jax.Array]:
    """Lay the rows of ``(total, *features)`` on ``(batch, width, *features)``, and return its mask too."""
    lengths, slots = jnp.diff(offsets), jnp.arange(width, dtype=offsets.dtype)
    before = width - lengths if side == "left" else jnp.zeros_like(lengths)
    at = slots - before[:, None]
    mask = (at >= 0) & (at < lengths[:, None])
    source = jnp.where(mask, offsets[:-1, None] + at, x.shape[0])
    cell = positions(offsets, segment_ids) + jnp.append(before, 0)[segment_ids]
    padded = _moved(x, (source,), (segment_ids, cell))
    fill = jnp.asarray(float(fill_value) if isinstance(fill_value, str) else fill_value, x.dtype)
    return jnp.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - 1)), padded, fill), mask


@partial(jax.jit, static_argnames="capacity")
def from_padded(padded: jax.Array, mask: jax.Array, *, capacity: int) -> tuple[jax.Array, jax.Array]:
    """Collect the elements that the mask marks, ``(capacity, *features)``, and return their offsets too.

    Behind the last element are zeros. What doesn't fit is lost: no program can raise.
    """
    dtype = jnp.int32 if mask.size <= INT32_MAX else jnp.int64
    lengths = mask.sum(axis=1, dtype=dtype)
    offsets = jnp.minimum(jnp.concatenate([jnp.zeros(1, dtype), jnp.cumsum(lengths)]), capacity)
    rank = jnp.cumsum(mask, axis=1, dtype=dtype) - 1
    target = jnp.where(mask, offsets[:-1, None] + rank, capacity)
    cells = jnp.broadcast_to(jnp.arange(mask.shape[1], dtype=dtype), mask.shape)
    cell = jnp.zeros(capacity, dtype).at[target].set(cells, mode="drop")
    return _moved(padded, (segment_ids(offsets, capacity), cell), (target,)), offsets


def pack(arrays: Sequence[jax.Array]) -> jax.Array:
    """Join arrays ``(length_i, *features)`` along the first axis.

    On the CPU and outside of traces by NumPy, whose copy needs no program: 1,000 rows of 64 floats take 12 ms,
    where ``jnp.concatenate`` takes 23 and 650 more to compile for each new set of lengths.
    """
    if not all(_on_cpu(a) for a in arrays):
        return jnp.concatenate(list(arrays))
    parts = [np.asarray(a) for a in arrays]
    out = aligned.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    return jax.device_put(np.concatenate(parts, out=out), _device_of(arrays[0]))


def split(x: jax.Array, bounds: Sequence[int], axis: int) -> list[jax.Array]:
    """Return the stretches of an array between neighbouring bounds along an axis.

    On the CPU and outside of traces they are views of its memory: 1,000 rows take 45 ms, where JAX compiles a
    program for each length, 19 s in all for 1,000 slices and 23 s for ``jnp.split``.
    """
    before = (slice(None),) * axis
    stretches = [(*before, slice(start, stop)) for start, stop in pairwise(bounds)]
    if not _on_cpu(x):
        return [x[stretch] for stretch in stretches]
    host = np.asarray(x)
    return jax.device_put([host[stretch] for stretch in stretches], _device_of(x))


def _on_cpu(a: jax.Array) -> bool:
    if isinstance(a, jax.core.Tracer):
        return False
    devices = list(a.devices())
    return len(devices) == 1 and devices[0].platform == "cpu"


def _device_of(a: jax.Array) -> Any:
    """Return where to put what is made from an array: its device if it is bound to one, else JAX's default."""
    return next(iter(a.devices())) if a.committed else None


def take(x: jax.Array, index: np.ndarray) -> jax.Array:
    """Gather elements along the first axis by indices on the host, all of them valid.

    The gradient adds up what is taken twice, halves in float32; of what isn't, it is the gather back. On the CPU
    and outside of traces by NumPy, which compiles nothing for a new number of elements.
    """
    if _on_cpu(x):
        return jax.device_put(aligned.take(np.asarray(x), index), _device_of(x))
    count = index.shape[0]
    inverse = np.full(x.shape[0], count)
    inverse[index] = np.arange(count)
    if np.array_equal(inverse[index], np.arange(count)):
        return _take_once(x, (from_numpy(index, x),), (from_numpy(inverse, x),))
    return _take(x, from_numpy(index, x))


def take_cells(padded: jax.Array, mask: np.ndarray) -> jax.Array:
    """Gather the elements that a mask on the host marks, ``(batch, width, *features)`` to ``(total, *features)``.

    By NumPy on the CPU, as ``take``.
    """
    if _on_cpu(padded):
        cells = np.asarray(padded).reshape(mask.size, *padded.shape[2:])
        return jax.device_put(aligned.take(cells, np.flatnonzero(mask)), _device_of(padded))
    source = np.nonzero(mask)
    target = np.full(mask.shape, source[0].shape[0])
    target[mask] = np.arange(source[0].shape[0])
    return _take_once(padded, tuple(from_numpy(index, padded) for index in source), (from_numpy(target, padded),))


@jax.jit
def _take(x: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take(widened(x), index, axis=0, mode="clip").astype(x.dtype)


@jax.jit
def _take_once(x: jax.Array, source: tuple[jax.Array, ...], target: tuple[jax.Array, ...]) -> jax.Array:
    return _moved(x, source, target)


def _moved(x: jax.Array, source: tuple[jax.Array, ...], target: tuple[jax.Array, ...]) -> jax.Array:
    """Gather ``x[source]``, with zeros for an index past the end; ``target`` is where each element of x went."""
    if 0 in x.shape or 0 in source[0].shape:
        return jnp.zeros((*source[0].shape, *x.shape[len(source) :]), x.dtype)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return _gathered(x, source)
    n = len(source)
    return with_transpose(
        lambda x, *index: _gathered(x, index[:n]), lambda y, *index: _gathered(y, index[n:]), x, *source, *target
    )


def _gathered(x: jax.Array, index: tuple[jax.Array, ...]) -> jax.Array:
    return x.at[index].get(mode="fill", fill_value=0)
