"""One transformer block, the same text for every library: NumPy, PyTorch, JAX and MLX, as far as they are installed.

    python examples/02_no_pad_transformer.py

The block is a modern one: RMS norms in front, grouped-query attention with rotary positions, a gated feed-forward
layer. It is written in scree's ops and in operators that all libraries share. Each library's result is compared with
NumPy's in float64; then one document is filled with NaN, to show that no other one sees it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

import scree

WIDTH, HEADS, KV_HEADS, HEAD_DIM = 64, 8, 2, 8
LENGTHS = (7, 31, 0, 12, 1, 64)  # six documents, one of them empty

MAKERS = {"numpy": ("numpy", "asarray"), "torch": ("torch", "tensor"), "jax": ("jax.numpy", "asarray")}
MAKERS["mlx"] = ("mlx.core", "array")


def draw_weights() -> dict[str, np.ndarray]:
    """Draw the block's weights, and the cosines and sines of its rotary positions."""
    rng = np.random.default_rng(0)
    kv_width = KV_HEADS * HEAD_DIM
    shapes = {"q": (WIDTH, WIDTH), "k": (WIDTH, kv_width), "v": (WIDTH, kv_width), "out": (WIDTH, WIDTH)}
    shapes |= {"gate": (WIDTH, 2 * WIDTH), "up": (WIDTH, 2 * WIDTH), "down": (2 * WIDTH, WIDTH)}
    weights = {name: rng.standard_normal(shape) / shape[0] ** 0.5 for name, shape in shapes.items()}
    angles = np.arange(max(LENGTHS))[:, None] / 10_000 ** np.linspace(0, 1, HEAD_DIM // 2, endpoint=False)
    return weights | {"norm_1": np.ones(WIDTH), "norm_2": np.ones(WIDTH), "cos": np.cos(angles), "sin": np.sin(angles)}


def block(x: scree.Array[Any], w: dict[str, Any]) -> scree.Array[Any]:
    """Return the block's output for documents ``(total, WIDTH)``."""
    h = scree.varlen_rmsnorm(x, w["norm_1"])
    q, k, v = (h.with_values((h.values @ w[name]).reshape(-1, heads, HEAD_DIM)) for name, heads in PROJECTIONS)
    q, k = (scree.varlen_rope(y, w["cos"], w["sin"]) for y in (q, k))
    attended = scree.varlen_attention(q, k, v, causal=True)
    x = x + attended.values.reshape(-1, WIDTH) @ w["out"]

    h = scree.varlen_rmsnorm(x, w["norm_2"]).values
    gate = h @ w["gate"]
    return x + ((gate / (1 + np.e**-gate)) * (h @ w["up"])) @ w["down"]


PROJECTIONS = (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))


def run(array: Callable[[np.ndarray], Any], hidden: np.ndarray, dtype: type) -> np.ndarray:
    """Run the block on a library's arrays, and return its output as a NumPy array."""
    weights = {name: array(weight.astype(dtype)) for name, weight in draw_weights().items()}
    out = block(scree.from_lengths(array(hidden.astype(dtype)), LENGTHS), weights)
    return out.backend.to_numpy(out.values)


if __name__ == "__main__":
    hidden = np.random.default_rng(1).standard_normal((sum(LENGTHS), WIDTH))
    exact = run(np.asarray, hidden, np.float64)
    poisoned = hidden.copy()
    poisoned[:7] = np.nan  # the first document

    for name, (module, maker) in MAKERS.items():
        try:
            array = getattr(importlib.import_module(module), maker)
        except ImportError:
            print(f"{name:6} isn't installed")
            continue
        error = np.abs(run(array, hidden, np.float32) - exact).max()
        beside_nan = np.abs(run(array, poisoned, np.float32)[7:] - exact[7:]).max()
        print(f"{name:6} differs from float64 by {error:.0e}; beside a document of NaN by {beside_nan:.0e}")
