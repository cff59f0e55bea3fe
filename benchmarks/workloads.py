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

    def qkv(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw q ``(total, heads, head_dim)``, and k and v ``(total, kv_heads, head_dim)``."""
        total, kv_heads = sum(self.lengths), self.kv_heads or self.heads
        shapes = [(total, heads, self.head_dim) for heads in (self.heads, kv_heads, kv_heads)]
        return tuple(_normal(shape, self.dtype, seed) for seed, shape in enumerate(shapes))  # type: ignore[return-value]


def log_normal(batch: int, mean: float, sigma: float, seed: int = 0) -> tuple[int, ...]:
    """Draw row lengths as documents have them: log-normal with this mean, at least 1."""
    drawn = np.random.default_rng(seed).lognormal(np.log(mean) - sigma**2 / 2, sigma, batch)
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
    "attention_gpu": Attention(log_normal(64, mean=512, sigma=0.8), heads=32, head_dim=128, kv_heads=8),
    "attention_gpu_equal": Attention((2048,) * 16, heads=32, head_dim=128, kv_heads=8),
}
"""In half precision, which the libraries draw for themselves: NumPy has no bfloat16."""
