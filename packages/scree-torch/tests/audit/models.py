"""A small model on packed ids, whose attention knows its rows or doesn't, and what to ask of a report."""

import torch
from torch import nn
from torch.nn import functional

import scree

LENGTHS = (3, 1, 4)
TOTAL = sum(LENGTHS)
OFFSETS = torch.tensor([0, 3, 4, 8], dtype=torch.int32)
ROWS = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2])
EVERY_PAIR = {(a, b) for a in range(3) for b in range(3) if a != b}
ONWARDS = {(0, 1), (0, 2), (1, 2)}


def ids_of(*shape, seed=0):
    return torch.randint(3, 50, shape, generator=torch.Generator().manual_seed(seed))


def pairs(report, probe="change", seen_in="outputs"):
    return {(leak.source, leak.target) for leak in report if (leak.probe, leak.seen_in) == (probe, seen_in)}


class Attention(nn.Module):
    """Causal attention over one packed sequence, told of its rows or not."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.qkv = nn.Linear(16, 48)

    def forward(self, x, offsets):
        q, k, v = (part.unflatten(-1, (2, 8)) for part in self.qkv(x).chunk(3, -1))  # (total, heads, head_dim)
        if self.kind == "scree":
            q, k, v = (scree.from_cu_seqlens(part, offsets) for part in (q, k, v))
            return scree.varlen_attention(q, k, v, causal=True).values.flatten(1)
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
        scores = (q @ k.mT).masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), -torch.inf)
        if self.kind == "masked":
            row = torch.bucketize(torch.arange(len(x)), offsets[1:], right=True)
            scores = scores.masked_fill(row[:, None] != row, -torch.inf)
        return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)


class Model(nn.Module):
    """A small language model on packed ids."""

    def __init__(self, kind="scree", middle=None):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.attention, self.head = nn.Embedding(50, 16), Attention(kind), nn.Linear(16, 50)
        self.middle = middle or nn.Identity()

    def forward(self, input_ids, cu_seqlens, labels=None):
        x = self.embed(input_ids)
        x = x + self.attention(x, cu_seqlens)
        logits = self.head(self.middle(x))
        if labels is None:
            return logits
        return {"loss": functional.cross_entropy(logits[:-1], labels[1:]), "logits": logits}


BATCH = {"input_ids": ids_of(TOTAL), "cu_seqlens": OFFSETS}
