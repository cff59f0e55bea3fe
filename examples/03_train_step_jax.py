"""The twin of ``03_train_step.py`` in JAX: a small language model on real text, without padding and with it.

    python examples/03_train_step_jax.py

A byte-level transformer of two layers learns the paragraphs of Python's own help. A batch is 16 of them, packed end
to end and bucketed: its size is rounded up, so that the jitted step is compiled a handful of times for batches that
are never of one length. The padded run rounds its longest paragraph up for the same reason; it starts from the same
weights and sees the same batches, so that its losses differ by rounding alone.
"""

from __future__ import annotations

import time
from functools import partial
from pydoc_data.topics import topics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import scree

STEPS, BATCH, CONTEXT = 200, 16, 256
WIDTH, HEADS, LAYERS = 64, 4, 2
RATE, DECAY, FIRST, SECOND = 3e-3, 0.01, 0.9, 0.999

PARAGRAPHS = [p.encode()[: CONTEXT + 1] for text in topics.values() for p in text.split("\n\n") if len(p) > 1]
ANGLES = np.arange(CONTEXT)[:, None] / 10_000 ** (np.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
COS, SIN = np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)


class Packed:
    """Paragraphs end to end: ``(total, 2)``, each byte beside the next one, and behind them a tail that is dead."""

    @staticmethod
    def prepare(pairs: scree.Array) -> scree.Array:
        """Round up on the host, where that compiles nothing."""
        return scree.bucket(pairs)

    def __init__(self, pairs: scree.Array) -> None:
        self.layout = pairs
        self.inputs, self.targets = pairs.values.T

    def attend(self, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        """Turn q and k by their positions, and attend within each paragraph: ``(total, heads, head_dim)``."""
        q, k, v = (self.layout.with_values(x) for x in (q, k, v))
        q, k = (scree.varlen_rope(x, jnp.asarray(COS), jnp.asarray(SIN)) for x in (q, k))
        return scree.varlen_attention(q, k, v, causal=True).values

    def mean(self, losses: jax.Array) -> jax.Array:
        return scree.varlen_sum(self.layout.with_values(losses)).sum() / self.layout.offsets[-1]


class Padded:
    """Paragraphs side by side, as long as the longest, rounded up: ``(batch, length, 2)``, and which are real."""

    @staticmethod
    def prepare(pairs: scree.Array) -> tuple[np.ndarray, np.ndarray]:
        return scree.to_padded(pairs, max_length=-(-pairs.max_length // 128) * 128)

    def __init__(self, padded: tuple[jax.Array, jax.Array]) -> None:
        pairs, self.real = padded
        self.inputs, self.targets = pairs[..., 0], pairs[..., 1]

    def attend(self, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        """The same for ``(batch, length, heads, head_dim)``; the padding is behind all that it could disturb."""
        return jax.nn.dot_product_attention(self._rotate(q), self._rotate(k), v, is_causal=True)

    def _rotate(self, x: jax.Array) -> jax.Array:
        cos, sin = (table[: x.shape[1], None] for table in (COS, SIN))
        x1, x2 = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)

    def mean(self, losses: jax.Array) -> jax.Array:
        return (losses * self.real).sum() / self.real.sum()


def weights(key: jax.Array) -> Any:
    """Draw the weights of a pre-norm transformer."""

    def draw(*shape: int) -> jax.Array:
        nonlocal key
        key, own = jax.random.split(key)
        return jax.random.normal(own, shape) / np.sqrt(shape[0])

    def block() -> dict[str, jax.Array]:
        attention = {"qkv": draw(WIDTH, 3 * WIDTH), "out": draw(WIDTH, WIDTH)}
        return attention | {"up": draw(WIDTH, 4 * WIDTH), "down": draw(4 * WIDTH, WIDTH)}

    return {"embed": draw(256, WIDTH) * 16, "blocks": [block() for _ in range(LAYERS)], "head": draw(WIDTH, 256)}


def loss(params: Any, batch: Packed | Padded) -> jax.Array:
    """Return the mean cross-entropy of the next byte; the model neither knows nor cares how its batch is laid out."""
    x = params["embed"][batch.inputs]
    for block in params["blocks"]:
        q, k, v = (y.reshape(*y.shape[:-1], HEADS, -1) for y in jnp.split(norm(x) @ block["qkv"], 3, axis=-1))
        x = x + batch.attend(q, k, v).reshape(x.shape) @ block["out"]
        x = x + jax.nn.gelu(norm(x) @ block["up"]) @ block["down"]
    chances = jax.nn.log_softmax(norm(x) @ params["head"])
    return batch.mean(-jnp.take_along_axis(chances, batch.targets[..., None], axis=-1)[..., 0])


def norm(x: jax.Array) -> jax.Array:
    """Divide by the root mean square."""
    return x * jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def step(layout: type[Packed | Padded], state: Any, batch: Any) -> tuple[Any, jax.Array]:
    """Take one step of AdamW."""
    params, first, second, count = state
    value, grads = jax.value_and_grad(lambda params: loss(params, layout(batch)))(params)
    count = count + 1
    first = jax.tree.map(lambda m, g: FIRST * m + (1 - FIRST) * g, first, grads)
    second = jax.tree.map(lambda v, g: SECOND * v + (1 - SECOND) * g * g, second, grads)

    def moved(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return p - RATE * (m / (1 - FIRST**count) / (jnp.sqrt(v / (1 - SECOND**count)) + 1e-8) + DECAY * p)

    return (jax.tree.map(moved, params, first, second), first, second, count), value


def train(layout: type[Packed | Padded]) -> tuple[list[float], float, float, int]:
    """Return the losses, the seconds of steps that ran and of those that were compiled, and how many these were."""
    params = weights(jax.random.key(0))
    nothing = jax.tree.map(jnp.zeros_like, params)
    state = params, nothing, jax.tree.map(jnp.copy, nothing), jnp.zeros((), jnp.int32)
    draw, known = np.random.default_rng(0), step._cache_size()
    losses, seconds, compiled = [], [0.0, 0.0], 0
    for _ in range(STEPS):
        paragraphs = [np.frombuffer(PARAGRAPHS[i], np.uint8) for i in draw.integers(len(PARAGRAPHS), size=BATCH)]
        start = time.perf_counter()
        batch = layout.prepare(scree.pack([np.stack([p[:-1], p[1:]], axis=1).astype(np.int32) for p in paragraphs]))
        state, value = step(layout, state, batch)
        losses.append(float(value))
        new, known = step._cache_size() - known, step._cache_size()
        seconds[new] += time.perf_counter() - start
        compiled += new
    return losses, *seconds, compiled


if __name__ == "__main__":
    scree.preload("jax")  # so that jit knows Arrays before it meets the first
    results = {layout.__name__.lower(): train(layout) for layout in (Packed, Padded)}
    for name, (losses, running, compiling, compiled) in results.items():
        print(
            f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f} after {STEPS} steps, {running:.1f} s, "
            f"and {compiling:.1f} s for {compiled} compilations"
        )
    (packed, fast, *_), (padded, slow, *_) = results.values()
    apart = max(abs(a - b) for a, b in zip(packed, padded, strict=True))
    print(f"losses differ by {apart:.0e} at most; padded steps took {slow / fast:.2f} times the time")
