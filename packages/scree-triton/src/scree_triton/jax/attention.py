"""Attention that JAX differentiates, maps and compiles, by the kernels where it is compiled for a GPU of NVIDIA's."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap

from scree_core.errors import UnsupportedError
from scree_core.layout import Layout
from scree_jax.attention.blocked import blocked
from scree_jax.attention.entry import attend
from scree_jax.varying import varying_like
from scree_triton.attention.told import planes
from scree_triton.jax import hopper, launches
from scree_triton.jax.given import Found, Inputs, Options

PLATFORM = "cuda"
"""What a program is compiled for that has the kernels."""


@partial(jax.jit, static_argnames="options")
def attention(inputs: Inputs, *, options: Options) -> tuple[jax.Array, jax.Array | None]:
    """Return the output ``(total_q, heads, head_dim_v)`` and, if asked, the lse ``(total_q, heads)``.

    Notes
    -----
    For backward, q, k, v and the output are kept, and 4 bytes for each query and head (8 of float32 input). Under
    ``jax.vmap`` one batch is computed after the other. A program that is compiled for another device, as that of
    arrays on the CPU of a machine with a GPU, is the JAX backend's.
    """
    return _attention(*inputs, options)


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    sinks: jax.Array | None,
    q_offsets: jax.Array,
    k_offsets: jax.Array,
    options: Options,
) -> tuple[jax.Array, jax.Array | None]:
    found = _find(options, Inputs(q, k, v, sinks, q_offsets, k_offsets))
    return found.out, found.lse


def _run(*given: Any) -> Any:
    inputs, options = Inputs(*given[:6]), given[6]
    found = _find(options, inputs)
    return (found.out, found.lse), (inputs, found)


def _pull(options: Options, kept: Any, cotangents: Any) -> Any:
    return *_differentiate(options, *kept, *cotangents), None, None


_attention.defvjp(_run, _pull)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _find(options: Options, inputs: Inputs) -> Found:
    """Run forward by what a program is compiled for."""

    def by_kernels(inputs: Inputs) -> Found:
        forward = hopper.forward if hopper.takes(inputs, options) else launches.forward
        found = sequential_vmap(partial(forward, options=options))(inputs)
        return _beside(found, inputs)

    def by_blocks(inputs: Inputs) -> Found:
        out, lse = _blocks(inputs, options)
        total, heads, _ = inputs.q.shape
        stats = jnp.zeros((planes(inputs.q.dtype.itemsize), heads, total), jnp.float32)
        return _beside(Found(out, lse, stats), inputs)

    return lax.platform_dependent(inputs, default=by_blocks, **{PLATFORM: by_kernels})


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _differentiate(
    options: Options, inputs: Inputs, found: Found, d_out: jax.Array, d_lse: jax.Array | None
) -> tuple[jax.Array | None, ...]:
    """Return the gradients of q, k, v and the sinks by what a program is compiled for."""

    def by_kernels(*given: Any) -> Any:
        return _beside(sequential_vmap(partial(launches.backward, options=options))(*given), given)

    def by_blocks(inputs: Inputs, found: Found, d_out: jax.Array, d_lse: jax.Array | None) -> Any:
        def run(q: jax.Array, k: jax.Array, v: jax.Array, sinks: jax.Array | None) -> Any:
            return _blocks(inputs._replace(q=q, k=k, v=v, sinks=sinks), options)

        _, pull = jax.vjp(run, *inputs[:4])
        return pull((d_out, d_lse))

    return lax.platform_dependent(inputs, found, d_out, d_lse, default=by_blocks, **{PLATFORM: by_kernels})


@_find.defjvp
@_differentiate.defjvp
def _refuse(*_: Any) -> Any:
    raise UnsupportedError(
        'the kernels of "jax.triton" have no gradient of the gradient: name backend="jax.dense", which forms all scores'
    )


def _blocks(inputs: Inputs, options: Options) -> tuple[jax.Array, jax.Array | None]:
    """Run the JAX backend's own program."""
    q, k, v, sinks, *offsets = inputs
    layouts = (Layout.trusted(at, total=x.shape[0], tail=True) for at, x in zip(offsets, (q, k), strict=True))
    causal, scale, window, softcap, return_lse, _ = options
    rest: dict[str, Any] = {"causal": causal, "scale": scale, "window": window, "softcap": softcap}
    return attend(blocked, q, k, v, *layouts, sinks=sinks, return_lse=return_lse, **rest)


def _beside(results: Any, *given: Any) -> Any:
    """Return the results as values that vary over every mesh axis that something given varies over."""
    return jax.tree.map(lambda x: varying_like(x, *jax.tree.leaves(given)), results)
