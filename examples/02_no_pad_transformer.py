"""A pre-norm transformer block on documents of any lengths, without padding: one code for every array library.

It runs on NumPy and on whichever of PyTorch, JAX and MLX are installed, and compares each with NumPy in float64. A few
seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

import scree

HEADS, HEAD_DIM, LENGTHS = 4, 16, (7, 130, 1, 42, 0, 75)
FEATURES = HEADS * HEAD_DIM

ARRAYS = {"numpy": ("numpy", "asarray"), "torch": ("torch", "as_tensor"), "jax": ("jax.numpy", "asarray")}
ARRAYS["mlx"] = ("mlx.core", "array")
"""How each library makes an array of a NumPy array."""


def block(x: scree.Array[Any], w: dict[str, Any]) -> scree.Array[Any]:
    """Apply attention and an MLP, each behind a norm and added to what came in."""
    h = scree.varlen_rmsnorm(x, w["norm_1"])
    q, k, v = (h.with_values((h.values @ w[name]).reshape(-1, HEADS, HEAD_DIM)) for name in ("q", "k", "v"))
    q, k = scree.varlen_rope(q, w["cos"], w["sin"]), scree.varlen_rope(k, w["cos"], w["sin"])
    attended = scree.varlen_attention(q, k, v, causal=True)
    x = x + attended.values.reshape(-1, FEATURES) @ w["out"]

    h = scree.varlen_rmsnorm(x, w["norm_2"])
    hidden = h.values @ w["up"]
    hidden = hidden * (hidden > 0) * hidden  # squared ReLU: no function of any library
    return x + hidden @ w["down"]


def weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw the block's weights, and the tables of its rotary embedding."""
    shapes = dict.fromkeys(("q", "k", "v", "out"), (FEATURES, FEATURES))
    shapes |= {"up": (FEATURES, 4 * FEATURES), "down": (4 * FEATURES, FEATURES)}
    drawn = {name: rng.standard_normal(shape) / shape[0] ** 0.5 for name, shape in shapes.items()}
    drawn |= {name: rng.uniform(0.5, 1.5, FEATURES) for name in ("norm_1", "norm_2")}
    angles = np.arange(max(LENGTHS))[:, None] / 10_000 ** np.linspace(0, 1, HEAD_DIM // 2, endpoint=False)
    return drawn | {"cos": np.cos(angles), "sin": np.sin(angles)}


def run(library: str, values: np.ndarray, w: dict[str, np.ndarray], dtype: str) -> scree.Array[np.ndarray]:
    """Run the block on arrays of a library, and return the result as NumPy."""
    module, make = ARRAYS[library]
    array = getattr(import_module(module), make)
    x = scree.from_lengths(array(values.astype(dtype)), LENGTHS)
    return scree.bridges.to_numpy(block(x, {name: array(weight.astype(dtype)) for name, weight in w.items()}))


def main() -> None:
    """Compare every installed library with NumPy in float64, then spoil a document and look at the others."""
    rng = np.random.default_rng(0)
    values, w = rng.standard_normal((sum(LENGTHS), FEATURES)), weights(rng)
    exact = run("numpy", values, w, "float64").values
    spoilt = scree.from_lengths(values.copy(), LENGTHS)
    spoilt[1][:] = np.nan  # a row is a view
    others = ~np.isnan(spoilt.values).any(axis=-1)

    print(f"{len(LENGTHS)} documents of {', '.join(map(str, LENGTHS))} tokens: {sum(LENGTHS)} slots,")
    print(f"padded they would take {len(LENGTHS) * max(LENGTHS)}.\n")
    print(f"{'':8}{'version':>16}   off float64   beside a document of NaN")
    for state in scree.backends():
        if state.name not in ARRAYS or state.state != "ok":
            continue
        result = run(state.name, values, w, "float32").values
        beside = run(state.name, spoilt.values, w, "float32").values
        difference = np.abs(result - exact).max() / np.abs(exact).max()
        assert difference < 1e-5, f"{state.name} is off by {difference:.0e}"
        assert np.array_equal(beside[others], result[others]), f"in {state.name} a document changed others"
        print(f"{state.name:8}{state.version:>16}   {difference:11.0e}   all others are what they were")


if __name__ == "__main__":
    main()
