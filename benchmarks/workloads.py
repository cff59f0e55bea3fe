"""The named workloads that tests, tuning and benchmarks share; seeded: a name means the same numbers everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layout:
    """Rows of features, to be packed, padded and unpacked."""

    lengths: tuple[int, ...]
    features: int
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{_shape(self.lengths)}, {self.features} {self.dtype} features"

    def values(self) -> np.ndarray:
        """Draw the packed values, ``(total, features)``."""
        return _normal((sum(self.lengths), self.features), self.dtype)


@dataclass(frozen=True)
class Attention:
    """A batch of self-attention."""

    lengths: tuple[int, ...]
    heads: int
    head_dim: int
    causal: bool = True
    kv_heads: int | None = None
    dtype: str = "float32"

    def __str__(self) -> str:
        kind = "causal" if self.causal else "full"
        heads = f"{self.heads}" if self.kv_heads is None else f"{self.heads}/{self.kv_heads}"
        return f"{_shape(self.lengths)}, {heads} heads x {self.head_dim}, {self.dtype}, {kind}"

    @property
    def filled(self) -> float:
        """The elements per slot of the padded batch, to three digits."""
        return round(sum(self.lengths) / (len(self.lengths) * max(self.lengths)), 3)

    @property
    def tokens(self) -> int:
        """The elements of all rows."""
        return sum(self.lengths)

    @property
    def flops(self) -> float:
        """Multiplications and additions of the forward products; causal, half of them."""
        pairs = sum(length**2 for length in self.lengths) / (2 if self.causal else 1)
        return 4 * self.heads * self.head_dim * pairs

    def qkv(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw q ``(total, heads, head_dim)``, and k and v ``(total, kv_heads, head_dim)``."""
        total, kv_heads = sum(self.lengths), self.kv_heads or self.heads
        shapes = [(total, heads, self.head_dim) for heads in (self.heads, kv_heads, kv_heads)]
        return tuple(_normal(shape, self.dtype, seed) for seed, shape in enumerate(shapes))  # type: ignore[return-value]


def log_normal(batch: int, mean: float, sigma: float, seed: int = 0) -> tuple[int, ...]:
    """Draw row lengths as documents have them: log-normal with this mean, at least 1."""
    return _log_normal(batch, np.log(mean) - sigma**2 / 2, sigma, seed)


def log_normal_around(batch: int, median: float, sigma: float, seed: int = 0) -> tuple[int, ...]:
    """Draw row lengths as ``log_normal`` does, half of them below this."""
    return _log_normal(batch, np.log(median), sigma, seed)


def _log_normal(batch: int, mu: float, sigma: float, seed: int) -> tuple[int, ...]:
    drawn = np.random.default_rng(seed).lognormal(mu, sigma, batch)
    return tuple(int(length) for length in np.maximum(1, drawn))


def _normal(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype)


def _shape(lengths: tuple[int, ...]) -> str:
    return f"{len(lengths):,} rows of {min(lengths):,} to {max(lengths):,}, {sum(lengths):,} elements"


LAYOUT = {
    "layout_10k": Layout(log_normal(10_000, mean=100, sigma=0.6), features=64),
    "layout_1k": Layout(log_normal(1_000, mean=100, sigma=0.6), features=64),
}

ATTENTION = {
    "attention_2core": Attention(log_normal(16, mean=256, sigma=0.6), heads=8, head_dim=64),
    "attention_2core_skewed": Attention(log_normal(16, mean=256, sigma=1.2), heads=8, head_dim=64),
    "attention_2core_full": Attention(log_normal(16, mean=256, sigma=0.6), heads=8, head_dim=64, causal=False),
}

ATTENTION_GPU = {
    "attention_gpu": Attention(
        log_normal(64, mean=512, sigma=0.8), heads=32, head_dim=128, kv_heads=8, dtype="bfloat16"
    ),
    "attention_gpu_equal": Attention((2048,) * 16, heads=32, head_dim=128, kv_heads=8, dtype="bfloat16"),
}
"""In half precision, which the libraries draw for themselves: NumPy has no bfloat16."""

HEADLINE = (512, 1024, 768, 256, 2048, 384, 896, 640, 1536, 320, 1152, 480, 704, 192, 832, 416)
"""Rows of documents as a batch of training has them: 12,160 tokens."""

ATTENTION_HEADLINE = {"headline": Attention(HEADLINE, heads=16, head_dim=64, dtype="float16")}

ATTENTION_SWEEP = {
    f"d{head_dim}h{heads}m{median}": Attention(log_normal_around(16, median, 0.6), heads, head_dim, dtype="float16")
    for head_dim in (32, 64, 128)
    for heads in (4, 8, 16)
    for median in (256, 1024, 2048)
}

ATTENTION_BIG = {
    "big_d128_causal": Attention(log_normal_around(16, 4096, 0.6), 16, 128, dtype="bfloat16"),
    "big_d128_full": Attention(log_normal_around(16, 4096, 0.6), 16, 128, causal=False, dtype="bfloat16"),
    "big_d64_causal": Attention(log_normal_around(16, 4096, 0.6), 32, 64, dtype="bfloat16"),
    "skew_d128_causal": Attention(log_normal_around(64, 512, 1.2), 16, 128, dtype="bfloat16"),
    "gqa_d128_causal": Attention(log_normal_around(16, 2048, 0.6), 32, 128, kv_heads=8, dtype="bfloat16"),
}

ATTENTION_TRITON = ATTENTION_HEADLINE | ATTENTION_BIG | ATTENTION_SWEEP

NORMS_GPU = {
    f"norm_{features}_{dtype}": Layout(HEADLINE, features, dtype)
    for features in (4096, 1024, 8192)
    for dtype in ("float16", "bfloat16")
}

PADDING_GPU = {
    "padding_hidden": Layout(log_normal(64, mean=512, sigma=0.6), 4096, "bfloat16"),
    "padding_skewed": Layout(log_normal(64, mean=512, sigma=1.2), 4096, "bfloat16"),
    "padding_headline": Layout(HEADLINE, 1024, "float16"),
    "padding_short": Layout(log_normal(10_000, mean=100, sigma=0.6), 64),
    "padding_small": Layout(log_normal(16, mean=256, sigma=0.6), 128, "bfloat16"),
    "padding_scalars": Layout(log_normal(1_000, mean=512, sigma=0.6), 1),
}

LOSSES_GPU = {
    f"loss_{rows}_{vocab}": Layout(log_normal(rows, mean=512, sigma=0.6), vocab, dtype)
    for rows, vocab, dtype in (
        (32, 32_000, "bfloat16"),
        (16, 128_256, "bfloat16"),
        (8, 151_936, "bfloat16"),
        (32, 151_936, "bfloat16"),
        (16, 50_257, "bfloat16"),
        (32, 1_024, "float32"),
    )
}
"""Logits of language models: their vocabularies are the features."""

SOFTMAX_GPU = Layout(log_normal(2048, mean=512, sigma=0.6), features=64)

ROPE_GPU = Attention(HEADLINE, heads=32, head_dim=128, dtype="bfloat16")
