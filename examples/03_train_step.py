"""Train a small language model on real text without padding, and once more with: the same loss, in less time.

    python examples/03_train_step.py

A byte-level transformer of two layers learns the paragraphs of Python's own help. A batch is 16 of them, packed end
to end; attention sees each by itself. The padded run starts from the same weights and sees the same batches, so that
its losses differ by rounding alone.
"""

from __future__ import annotations

import time
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import scree

STEPS, BATCH, CONTEXT = 200, 16, 512
WIDTH, HEADS, LAYERS = 64, 4, 2

PARAGRAPHS = [paragraph.encode() for text in topics.values() for paragraph in text.split("\n\n")]
DOCUMENTS = [np.frombuffer(p[: CONTEXT + 1], np.uint8).astype(np.int64) for p in PARAGRAPHS if len(p) > 1]


class Packed:
    """Documents end to end."""

    def __init__(self, documents: list[np.ndarray]) -> None:
        self.layout = scree.pack([torch.from_numpy(d[:-1]) for d in documents])
        self.inputs = self.layout.values  # (total,)
        self.targets = torch.cat([torch.from_numpy(d[1:]) for d in documents])

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Turn q and k by their positions, and attend within each document: ``(total, heads, head_dim)``."""
        q, k, v = (self.layout.with_values(x) for x in (q, k, v))
        q, k = scree.varlen_rope(q, COS, SIN), scree.varlen_rope(k, COS, SIN)
        return scree.varlen_attention(q, k, v, causal=True).values


class Padded:
    """Documents side by side, as long as the longest."""

    def __init__(self, documents: list[np.ndarray]) -> None:
        self.inputs, real = scree.to_padded(scree.pack([torch.from_numpy(d[:-1]) for d in documents]))
        targets, _ = scree.to_padded(scree.pack([torch.from_numpy(d[1:]) for d in documents]))
        self.targets = targets.masked_fill(~real, -100)  # what cross_entropy leaves out

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The same for ``(batch, length, heads, head_dim)``; the padding is behind all that it could disturb."""
        q, k = self._rotate(q), self._rotate(k)
        heads_first = (x.transpose(1, 2) for x in (q, k, v))
        return functional.scaled_dot_product_attention(*heads_first, is_causal=True).transpose(1, 2)

    def _rotate(self, x: torch.Tensor) -> torch.Tensor:
        cos, sin = (table[: x.shape[1], None] for table in (COS, SIN))
        x1, x2 = x.chunk(2, dim=-1)
        return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)


ANGLES = torch.arange(CONTEXT)[:, None] / 10_000 ** (torch.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
COS, SIN = ANGLES.cos(), ANGLES.sin()


class Model(nn.Module):
    """A pre-norm transformer that neither knows nor cares how its batch is laid out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 256, bias=False)

    def loss(self, batch: Packed | Padded) -> torch.Tensor:
        """Return the mean cross-entropy of the next byte."""
        x = self.embed(batch.inputs)
        for block in self.blocks:
            x = block(x, batch)
        return functional.cross_entropy(self.head(self.norm(x)).flatten(0, -2), batch.targets.flatten())


class Block(nn.Module):
    """Attention and a feed-forward layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(WIDTH) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor, batch: Packed | Padded) -> torch.Tensor:
        """Add what attention and the feed-forward layer make of x."""
        q, k, v = (y.unflatten(-1, (HEADS, -1)) for y in self.qkv(self.norms[0](x)).chunk(3, dim=-1))
        x = x + self.out(batch.attend(q, k, v).flatten(-2))
        return x + self.feed(self.norms[1](x))


def train(layout: type[Packed | Padded]) -> tuple[list[float], float, int]:
    """Return the losses, the seconds, and how many slots the batches had."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw = np.random.default_rng(0)
    losses, slots, start = [], 0, time.perf_counter()
    for _ in range(STEPS):
        batch = layout([DOCUMENTS[i] for i in draw.integers(len(DOCUMENTS), size=BATCH)])
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        slots += batch.inputs.numel()
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
