"""A kernel of somebody else's, kept from carrying what isn't finite from row to row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from scree_jax.attention.isolation import finite, marks, spoiled

Kernel = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0, 4))
def isolated(
    kernel: Callable[..., Kernel],
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    batch: int,
    ids: jax.Array,
    *given: jax.Array,
) -> jax.Array:
    """Return ``kernel(*given)(q, k, v)`` for self-attention, with NaN all over the rows that aren't finite.

    Parameters
    ----------
    kernel : callable
        Makes the function of q, k and v, ``(total, heads, dim)`` each, that is run and differentiated.
    ids : array of int of shape (total,)
        Row number of each element.
    *given : array of int
        What the kernel is made from.
    """
    sound = (finite(x) for x in (q, k, v))
    return spoiled(kernel(*given)(*sound), marks(ids, batch, k.shape[1], q, k, v), ids)


def _run(kernel: Any, q: jax.Array, k: jax.Array, v: jax.Array, batch: int, ids: jax.Array, *given: jax.Array) -> Any:
    marked = marks(ids, batch, k.shape[1], q, k, v)
    out, pull = jax.vjp(kernel(*given), finite(q), finite(k), finite(v))
    return spoiled(out, marked, ids), (pull, marked, ids, len(given))


def _pull(kernel: Any, batch: int, kept: Any, d_out: jax.Array) -> Any:
    pull, marked, ids, count = kept
    marked = marked + marks(ids, batch, marked.shape[1], d_out)
    grads = (spoiled(grad, marked, ids) for grad in pull(finite(d_out)))
    return *grads, None, *(None,) * count


isolated.defvjp(_run, _pull)
