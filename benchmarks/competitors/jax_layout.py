"""Packing and padding in JAX: scree's call, and the one call of JAX that moves the same bytes, both waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from workloads import Layout

import scree

Call = Callable[[], Any]


def candidates(workload: Layout) -> dict[str, tuple[Call, Call, str]]:
    """Return for each op scree's call, JAX's call, and its name.

    JAX's calls are timed when they are compiled already. For rows of new lengths ``jnp.concatenate`` compiles
    for 0.7 s and ``jnp.split`` for 23 s; scree's pack and unpack compile nothing.
    """
    arr = scree.from_lengths(jnp.asarray(workload.values()), workload.lengths)
    rows = scree.unpack(arr)
    padded, mask = scree.to_padded(arr)
    lengths = np.array(workload.lengths)
    starts, width = np.cumsum(lengths) - lengths, lengths.max()
    cells = np.where(np.arange(width) < lengths[:, None], starts[:, None] + np.arange(width), 0)
    to_padded, from_padded = (jnp.asarray(index) for index in (cells, np.flatnonzero(np.asarray(mask))))
    flat = padded.reshape(-1, workload.features)
    return {
        "pack": waited(lambda: scree.pack(rows).values, lambda: jnp.concatenate(rows), "jnp.concatenate"),
        "unpack": waited(lambda: scree.unpack(arr), lambda: jnp.split(arr.values, starts[1:]), "jnp.split"),
        "to_padded": waited(lambda: scree.to_padded(arr), lambda: jnp.take(arr.values, to_padded, axis=0), "jnp.take"),
        "from_padded": waited(
            lambda: scree.from_padded(padded, mask).values, lambda: jnp.take(flat, from_padded, axis=0), "jnp.take"
        ),
    }


def waited(ours: Call, theirs: Call, name: str) -> tuple[Call, Call, str]:
    """Return both calls so that they end when the result is there."""
    return lambda: jax.block_until_ready(ours()), lambda: jax.block_until_ready(theirs()), name
