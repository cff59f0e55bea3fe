"""Attention in JAX on a GPU, bfloat16, forward and a training step: scree's ways against cuDNN's.

    python benchmarks/jax_gpu.py

cuDNN is called as ``jax.nn`` offers it, on padded rows, and on packed rows as JAX has it in a private module; there it
has no gradient here, for it asks for 80 GB on ragged batches. The goals are of what runs where nothing is chosen:
forward no slower than cuDNN on packed rows, a step no slower than on padded ones.
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
from scree_core.errors import BackendNotInstalledError, UnsupportedError

AT_ONCE = 5
"""Calls that are waited for together, so that starting one costs what it does in a program of many."""
CUDNN, BLOCKED, PADDED, PACKED = "scree, jax.cudnn", "scree, blocked", "padded jax.nn, cuDNN", "packed cuDNN"
SCREE = {"scree": None, "scree, jax.triton": "jax.triton", CUDNN: "jax.cudnn", BLOCKED: "jax"}
FORWARD_ALONE = (CUDNN, PACKED)
"""What has no gradient of its own."""
Way = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def ways(workload: Attention) -> dict[str, Way]:
    """Return each way from packed q, k and v to the packed output."""
    rows = scree.from_lengths(jnp.zeros((sum(workload.lengths), 1)), workload.lengths)
    source, _, real = cells(workload.lengths)
    odd = (0, 0), (0, source.shape[1] % 2)  # of which cuDNN has no gradient
    source = jnp.asarray(np.pad(source, odd, constant_values=sum(workload.lengths)))
    back = jnp.asarray(np.flatnonzero(np.pad(real, odd)))

    def by(backend: str | None) -> Way:
        def attend(*qkv: jax.Array) -> jax.Array:
            arrays = (rows.with_values(x) for x in qkv)
            return scree.varlen_attention(*arrays, causal=workload.causal, backend=backend).values

        return attend

    def padded(*qkv: jax.Array) -> jax.Array:
        rectangles = (x.at[source].get(mode="fill", fill_value=0) for x in qkv)
        out = jax.nn.dot_product_attention(*rectangles, is_causal=workload.causal, implementation="cudnn")
        return out.reshape(-1, *out.shape[2:])[back]

    def packed(*qkv: jax.Array) -> jax.Array:
        from jax._src.cudnn import fused_attention_stablehlo as kernels

        lengths, offsets = jnp.diff(rows.offsets)[None], rows.offsets[None]
        mask = kernels.MaskType.PADDING_CAUSAL if workload.causal else kernels.MaskType.PADDING
        where = {"q_seqlen": lengths, "kv_seqlen": lengths, "q_offsets": offsets, "kv_offsets": offsets}
        scale = workload.head_dim**-0.5
        return kernels.dot_product_attention(*(x[None] for x in qkv), **where, scale=scale, mask_type=mask)[0]

    return {name: by(backend) for name, backend in SCREE.items()} | {PADDED: padded, PACKED: packed}


def stepped(attend: Way) -> Callable[..., Any]:
    """Return a function from q, k, v and a cotangent to their gradients."""

    def step(d_out: jax.Array, *qkv: jax.Array) -> Any:
        return jax.vjp(attend, *qkv)[1](d_out)

    return step


def draw(workload: Attention) -> list[jax.Array]:
    """Return q, k and v, and a cotangent of the output."""
    heads, kv_heads = workload.heads, workload.kv_heads or workload.heads
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(workload.tokens, n, workload.head_dim) for n in (heads, kv_heads, kv_heads, heads)]
    return [jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)]


def compare(workload: Attention, rounds: int, *, step: bool) -> list[Row]:
    """Time all ways on one batch, and refuse to if they disagree."""
    *qkv, d_out = draw(workload)
    given = [d_out, *qkv] if step else qkv
    runs: dict[str, Callable[[], Any]] = {}
    for name, attend in ways(workload).items():
        if step and name in FORWARD_ALONE:
            continue
        run = jax.jit(stepped(attend) if step else attend)
        try:
            jax.eval_shape(run, *given)
        except (BackendNotInstalledError, UnsupportedError) as refused:
            print(f"without {name}: {refused}")
            continue
        runs[name] = lambda run=run: jax.block_until_ready([run(*given) for _ in range(AT_ONCE)][-1])
    expected = jax.tree.leaves(runs[BLOCKED]())
    for name, run in runs.items():
        off = np.max([error(*pair) for pair in zip(jax.tree.leaves(run()), expected, strict=True)])
        if not off <= 2**-6:
            raise SystemExit(f"{name} is off by {off:.1e}: no figures")
    ms = {name: spent / AT_ONCE for name, spent in medians(runs, rounds).items()}
    peer = PADDED if step else PACKED
    goal = at_most(1.0, ms["scree"] / ms[peer])
    work = workload.flops * (3.5 if step else 1) / 1e9  # five products backward, as is usual to count, to two forward
    return [
        Row(f"{name}, {work / spent:,.0f} TFLOP/s", spent, peer, ms[peer], goal * (name == "scree"))
        for name, spent in ms.items()
    ]


@jax.jit
def error(x: jax.Array, expected: jax.Array) -> jax.Array:
    """Return the largest distance, as a share of the largest number."""
    x, expected = x.astype(jnp.float32), expected.astype(jnp.float32)
    return abs(x - expected).max() / abs(expected).max()


if __name__ == "__main__":
    options = arguments(__doc__, ATTENTION_GPU)
    tables = {}
    for name in options.workload:
        for step in (False, True):
            title = f"{name}, {'step' if step else 'forward'}: {ATTENTION_GPU[name]}"
            tables[title] = compare(ATTENTION_GPU[name], options.rounds, step=step)
            print(f"measured {title}: {[(row.name, round(row.ms, 2)) for row in tables[title]]}", flush=True)
    report("jax-gpu", tables, write=options.json, library="jax", accelerator=jax.devices()[0].device_kind)
