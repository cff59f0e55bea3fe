"""Attention in JAX on a GPU, bfloat16: scree's ways against ``jax.nn`` on padded rows, which is cuDNN too.

    python benchmarks/jax_gpu.py

The goal of what runs where nothing is chosen, cuDNN on packed rows: as much faster than padded as padding holds slots
that aren't elements. The blocked program, which trains, has no goal here: scree-triton's kernels are to replace it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from competitors.jax_attention import cells
from harness import Row, arguments, at_most, medians, report
from workloads import ATTENTION_GPU, Attention

import scree


def candidates(workload: Attention) -> dict[str, Callable[[], jax.Array]]:
    """Return each way from packed to packed, jitted."""
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in workload.qkv())
    rows = scree.from_lengths(q, workload.lengths)
    source, back = (jnp.asarray(x) for x in cells(workload.lengths)[:2])

    def by(backend: str | None) -> Callable[[], jax.Array]:
        @jax.jit
        def run(rows: Any, k: jax.Array, v: jax.Array) -> jax.Array:
            return scree.varlen_attention(
                rows, rows.with_values(k), rows.with_values(v), causal=workload.causal, backend=backend
            ).values

        return lambda: run(rows, k, v).block_until_ready()

    @jax.jit
    def padded(q: jax.Array, k: jax.Array, v: jax.Array, source: jax.Array, back: jax.Array) -> jax.Array:
        rectangles = (x.at[source].get(mode="fill", fill_value=0) for x in (q, k, v))
        out = jax.nn.dot_product_attention(*rectangles, is_causal=workload.causal, implementation="cudnn")
        return out.reshape(-1, *out.shape[2:])[back]

    return {
        "scree": by(None),
        "scree, jax.cudnn": by("jax.cudnn"),
        "scree, blocked": by("jax"),
        "padded jax.nn, cuDNN": lambda: padded(q, k, v, source, back).block_until_ready(),
    }


def compare(workload: Attention, rounds: int) -> list[Row]:
    """Time all ways on one batch, and refuse to if they disagree."""
    ways = candidates(workload)
    outs = {name: np.asarray(way().astype(jnp.float32)) for name, way in ways.items()}
    for name, out in outs.items():
        if not (error := np.abs(out - outs["scree, blocked"]).max()) <= 2**-6:
            raise SystemExit(f"{name} is off by {error:.1e}: no figures")
    ms, peer = medians(ways, rounds), "padded jax.nn, cuDNN"
    ratio = ms["scree"] / ms[peer]
    return [
        Row(name, ms[name], peer, ms[peer], at_most(workload.filled, ratio) if name == "scree" else "") for name in ways
    ]


if __name__ == "__main__":
    options = arguments(__doc__, ATTENTION_GPU)
    tables = {}
    for name in options.workload:
        workload = ATTENTION_GPU[name]
        flops = 2 * workload.heads * workload.head_dim * sum(length**2 for length in workload.lengths)
        title = f"{name}: {workload}, in bfloat16: {flops / 1e9:,.0f} GFLOP"
        tables[title] = compare(workload, options.rounds)
    report("jax-gpu", tables, write=options.json, library="jax", accelerator=jax.devices()[0].device_kind)
