"""The twin of ``03_train_step.py`` in MLX: a small language model on real text, without padding and with it.

    python examples/03_train_step_mlx.py

A byte-level transformer of two layers learns the paragraphs of Python's own help. A batch is 8 of them, of unequal
length, packed end to end; attention sees each paragraph alone. The padded run starts from the same weights and sees
the same batches, so that its losses differ by rounding alone. Fewer steps than in PyTorch, as MLX multiplies matrices
slowly on CPUs other than Apple's.
"""

from __future__ import annotations

import time
from pydoc_data.topics import topics

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers

import scree

STEPS, BATCH, CONTEXT = 30, 8, 256
WIDTH, HEADS, LAYERS = 64, 4, 2

PARAGRAPHS = [p.encode()[: CONTEXT + 1] for text in topics.values() for p in text.split("\n\n") if len(p) > 1]
ANGLES = mx.arange(CONTEXT)[:, None] / 10_000 ** (mx.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
COS, SIN = mx.cos(ANGLES), mx.sin(ANGLES)


class Packed:
    """Paragraphs end to end."""

    def __init__(self, paragraphs: list[np.ndarray]) -> None:
        self.layout = scree.pack([mx.array(p[:-1]) for p in paragraphs])
        self.inputs = self.layout.values  # (total,)
        self.targets = mx.concatenate([mx.array(p[1:]) for p in paragraphs])

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Turn q and k by their positions, and attend within each paragraph: ``(total, heads, head_dim)``."""
        q, k, v = (self.layout.with_values(x) for x in (q, k, v))
        q, k = scree.varlen_rope(q, COS, SIN), scree.varlen_rope(k, COS, SIN)
        return scree.varlen_attention(q, k, v, causal=True).values

    def mean(self, losses: mx.array) -> mx.array:
        return losses.mean()


class Padded:
    """Paragraphs side by side, as long as the longest."""

    def __init__(self, paragraphs: list[np.ndarray]) -> None:
        self.inputs, self.real = scree.to_padded(scree.pack([mx.array(p[:-1]) for p in paragraphs]))
        self.targets, _ = scree.to_padded(scree.pack([mx.array(p[1:]) for p in paragraphs]))

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """The same for ``(batch, length, heads, head_dim)``; the padding is behind all that it could disturb."""
        heads_first = (x.swapaxes(1, 2) for x in (self._rotate(q), self._rotate(k), v))
        scale = q.shape[-1] ** -0.5
        return mx.fast.scaled_dot_product_attention(*heads_first, scale=scale, mask="causal").swapaxes(1, 2)

    def _rotate(self, x: mx.array) -> mx.array:
        cos, sin = (table[: x.shape[1], None] for table in (COS, SIN))
        x1, x2 = mx.split(x, 2, axis=-1)
        return mx.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)

    def mean(self, losses: mx.array) -> mx.array:
        return (losses * self.real).sum() / self.real.sum()


class Model(nn.Module):
    """A pre-norm transformer that neither knows nor cares how its batch is laid out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, WIDTH)
        self.blocks = [Block() for _ in range(LAYERS)]
        self.norm, self.head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 256, bias=False)

    def loss(self, batch: Packed | Padded) -> mx.array:
        """Return the mean cross-entropy of the next byte."""
        x = self.embed(batch.inputs)
        for block in self.blocks:
            x = block(x, batch)
        return batch.mean(nn.losses.cross_entropy(self.head(self.norm(x)), batch.targets))


class Block(nn.Module):
    """Attention and a feed-forward layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = [nn.RMSNorm(WIDTH) for _ in range(2)]
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def __call__(self, x: mx.array, batch: Packed | Padded) -> mx.array:
        """Add what attention and the feed-forward layer make of x."""
        q, k, v = (y.reshape(*y.shape[:-1], HEADS, -1) for y in mx.split(self.qkv(self.norms[0](x)), 3, axis=-1))
        x = x + self.out(batch.attend(q, k, v).reshape(x.shape))
        return x + self.feed(self.norms[1](x))


def train(layout: type[Packed | Padded]) -> tuple[list[float], float, int]:
    """Return the losses, the seconds, and how many slots the batches had."""
    mx.random.seed(0)
    model = Model()
    optimizer = optimizers.AdamW(learning_rate=3e-3, bias_correction=True)
    loss_and_grad = nn.value_and_grad(model, model.loss)
    draw = np.random.default_rng(0)
    losses, slots, start = [], 0, time.perf_counter()
    for _ in range(STEPS):
        batch = layout([np.frombuffer(PARAGRAPHS[i], np.uint8) for i in draw.integers(len(PARAGRAPHS), size=BATCH)])
        loss, grads = loss_and_grad(batch)
        optimizer.update(model, grads)
        mx.eval(loss, model.parameters(), optimizer.state)
        losses.append(loss.item())
        slots += batch.inputs.size
    return losses, time.perf_counter() - start, slots


if __name__ == "__main__":
    results = {layout.__name__.lower(): train(layout) for layout in (Packed, Padded)}
    for name, (losses, seconds, slots) in results.items():
        print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f} after {STEPS} steps, {seconds:.1f} s, {slots:,} slots")
    (packed, fast, few), (padded, slow, many) = results.values()
    apart = max(abs(a - b) for a, b in zip(packed, padded, strict=True))
    print(
        f"losses differ by {apart:.0e} at most; {many / few:.2f} times the slots took {slow / fast:.2f} times the time"
    )
