"""One attention block over real documents without padding, and the same with it: equal results, less of everything.

The documents are the topics of Python's own ``help()``. NumPy alone, a few seconds: ``python -m scree demo``.
"""

from __future__ import annotations

import re
import zlib
from pydoc_data.topics import topics
from timeit import repeat

import numpy as np

import scree

CONTEXT, VOCABULARY, HEADS, HEAD_DIM, EPS = 512, 4096, 4, 32, 1e-6
FEATURES = HEADS * HEAD_DIM

rng = np.random.default_rng(0)
EMBEDDING = rng.standard_normal((VOCABULARY, FEATURES), np.float32)
NORM, POOL = rng.standard_normal((2, FEATURES), np.float32)
Q, K, V, OUT = rng.standard_normal((4, FEATURES, FEATURES), np.float32) / np.float32(FEATURES**0.5)
ANGLES = np.arange(CONTEXT)[:, None] / 10_000 ** np.linspace(0, 1, HEAD_DIM // 2, endpoint=False)
COS, SIN = np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)


def read_documents() -> list[np.ndarray]:
    """Cut every help topic that fits the context into words and punctuation, and number those by their checksum."""
    cut = [re.findall(r"\w+|[^\w\s]", text) for text in topics.values()]
    numbered = [[zlib.crc32(token.encode()) % VOCABULARY for token in tokens] for tokens in cut]
    return [np.array(ids) for ids in numbered if 0 < len(ids) <= CONTEXT]


def attend_packed(tokens: scree.Array[np.ndarray]) -> np.ndarray:
    """Return one vector per document: a pre-norm attention block and softmax pooling, on the tokens there are."""
    x = tokens.with_values(EMBEDDING[tokens.values])  # (total, features): every step shares the layout of the tokens

    h = scree.varlen_rmsnorm(x, NORM, eps=EPS)
    q, k, v = (h.with_values((h.values @ weight).reshape(-1, HEADS, HEAD_DIM)) for weight in (Q, K, V))
    q, k = scree.varlen_rope(q, COS, SIN), scree.varlen_rope(k, COS, SIN)
    attended = scree.varlen_attention(q, k, v, causal=True)
    x = x + attended.values.reshape(-1, FEATURES) @ OUT

    share = scree.varlen_softmax(x.with_values(x.values @ POOL))
    return scree.varlen_sum(x * share.values[:, None])


def attend_padded(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the same by hand: every document as long as the longest, and a mask wherever rows could mix."""
    batch, length = tokens.shape
    x = EMBEDDING[tokens]  # (batch, length, features)

    h = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(EPS)) * NORM
    q, k, v = ((h @ weight).reshape(batch, length, HEADS, HEAD_DIM).swapaxes(1, 2) for weight in (Q, K, V))
    scores = rotate(q) @ rotate(k).swapaxes(2, 3) / np.float32(HEAD_DIM**0.5)
    visible = mask[:, None, None, :] & np.tri(length, dtype=bool)
    attended = softmax(np.where(visible, scores, np.float32(-np.inf)), axis=-1) @ v
    x = x + attended.swapaxes(1, 2).reshape(batch, length, FEATURES) @ OUT

    share = softmax(np.where(mask, x @ POOL, np.float32(-np.inf)), axis=1)
    return np.sum(x * share[..., None], axis=1)


def rotate(x: np.ndarray) -> np.ndarray:
    """Apply rotary positions to ``(batch, heads, length, head_dim)``."""
    cos, sin = COS[: x.shape[2]], SIN[: x.shape[2]]
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """Normalise the exponentials along an axis."""
    weights = np.exp(x - x.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def check(packed: np.ndarray, padded: np.ndarray) -> float:
    """Return the largest difference, after checking that it is rounding and nothing else."""
    difference = float(np.abs(packed - padded).max())
    # Adding up n numbers in another order changes the sum by up to n roundings; no sum here has more terms.
    allowed = CONTEXT * np.finfo(np.float32).eps * np.abs(padded).max()
    assert difference <= allowed, f"packed and padded differ by {difference:.1e}, rounding explains {allowed:.1e}"
    return difference


def main() -> None:
    """Run both, check that they agree, and report what padding would have cost."""
    tokens = scree.pack(read_documents())
    padded, mask = scree.to_padded(tokens)
    difference = check(attend_packed(tokens), attend_padded(padded, mask))
    packed_time = min(repeat(lambda: attend_packed(tokens), number=1, repeat=3))
    padded_time = min(repeat(lambda: attend_padded(padded, mask), number=1, repeat=3))

    sizes = np.array([tokens.total_length, padded.size])
    pairs = np.array([np.sum(tokens.lengths.astype(np.int64) ** 2), padded.size * padded.shape[1]])
    print(f"{len(tokens)} topics of Python's help, {tokens.min_length} to {tokens.max_length} tokens each;")
    print(f"padded to one length, {1 - mask.mean():.0%} of the batch is padding.\n")
    print(f"{'':20}{'packed':>10}{'padded':>10}{'saved':>10}{'ratio':>8}")
    for name, (ours, theirs) in {
        "tokens": sizes,
        "activations, kB": sizes * FEATURES * 4 / 1000,
        "attention scores, kB": pairs * HEADS * 4 / 1000,
        "time, ms": (packed_time * 1000, padded_time * 1000),
    }.items():
        print(f"{name:20}{ours:10,.0f}{theirs:10,.0f}{theirs - ours:10,.0f}{theirs / ours:8.1f}")
    print(f"\nThe results differ by {difference:.0e} at most: float32 rounding.")


if __name__ == "__main__":
    main()
