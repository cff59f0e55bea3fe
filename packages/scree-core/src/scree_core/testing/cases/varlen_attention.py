"""Cases of ``varlen_attention``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.testing.case import FORWARD_ONLY, LENGTHS, Case, Dense, ErrorCase, Rows, draw_rows

OP = "varlen_attention"
POISON = frozenset({"poison"})


def _qkv(
    lengths: tuple[int, ...],
    k_lengths: tuple[int, ...] | None = None,
    *,
    heads: int = 2,
    kv_heads: int = 2,
    head_dim: int = 8,
    v_dim: int | None = None,
    size: float = 1.0,
    k_size: float = 1.0,
    sinks: bool = False,
    sinks_at: float = 0.0,
    rows: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    keys, rows = lengths if k_lengths is None else k_lengths, rows or {}

    def draw(rng: np.random.Generator) -> dict[str, Any]:
        q = draw_rows(rng, lengths, heads, head_dim, **rows)
        arguments: dict[str, Any] = {
            "q": Rows(q.values * size, lengths, **rows),
            "k": Rows(draw_rows(rng, keys, kv_heads, head_dim).values * k_size, keys, **rows),
            "v": draw_rows(rng, keys, kv_heads, v_dim or head_dim, **rows),
        }
        if sinks:
            arguments["sinks"] = Dense(rng.standard_normal(heads) + sinks_at)
        return {**arguments, **options}

    return draw


CROSS = (3, 0, 5, 2), (6, 4, 2, 0)  # more keys, no queries, more queries than keys, no keys

# Kernels cut rows into tiles, and take other ways for long ones: these are longer than most tiles.
LONG: dict[str, Any] = {"lengths": (130, 0, 1, 70), "heads": 4, "kv_heads": 2, "head_dim": 32}
ACROSS: dict[str, Any] = {"lengths": (70, 1, 40), "k_lengths": (130, 200, 20)}
LONGER: dict[str, dict[str, Any]] = {
    "full": {"sinks": True},
    "causal": {"causal": True},
    "strided": {"causal": True, "rows": {"strided": True}},
    "cross": ACROSS,
    "cross_causal": {**ACROSS, "causal": True, "return_lse": True},
    "decode": {**ACROSS, "lengths": (1, 1, 1), "causal": True},
    "window": {"window": (40, 10)},
    # Gradients of sinks add up over all queries, and these take so little weight that 1 minus the rest isn't it.
    "sinks": {"lengths": (200, 90), "sinks": True, "sinks_at": -6.0, "causal": True},
    "everything": {
        **ACROSS,
        "v_dim": 24,
        "sinks": True,
        "causal": True,
        "window": (50, -1),
        "softcap": 3.0,
        "return_lse": True,
    },
}

CASES = [
    *(Case(OP, name, _qkv(lengths)) for name, lengths in LENGTHS.items()),
    *(Case(OP, f"causal_{name}", _qkv(lengths, causal=True, return_lse=True)) for name, lengths in LENGTHS.items()),
    Case(OP, "causal_around_128", _qkv((127, 128, 129), heads=1, kv_heads=1, causal=True)),
    Case(OP, "lse", _qkv((3, 5), return_lse=True)),
    Case(OP, "cross", _qkv(*CROSS, return_lse=True)),
    Case(OP, "cross_causal", _qkv(*CROSS, causal=True, return_lse=True)),
    Case(OP, "cross_window", _qkv(*CROSS, window=(1, 1), return_lse=True)),
    Case(OP, "no_keys_at_all", _qkv((3, 2), (0, 0), sinks=True, return_lse=True)),
    Case(OP, "no_queries_at_all", _qkv((0, 0), (3, 2), return_lse=True)),
    Case(OP, "decode", _qkv((1, 1, 1), (7, 1, 4), causal=True)),
    Case(OP, "grouped_query", _qkv((3, 6), heads=6, kv_heads=2, causal=True, return_lse=True)),
    Case(OP, "multi_query", _qkv((3, 6), heads=4, kv_heads=1)),
    Case(OP, "wide_values", _qkv((3, 6), head_dim=4, v_dim=12, causal=True)),
    Case(OP, "narrow_values", _qkv((3, 6), head_dim=8, v_dim=3)),
    Case(OP, "scale", _qkv((3, 6), scale=0.3)),
    Case(OP, "scale_0", _qkv((3, 6), scale=0.0, causal=True)),
    Case(OP, "window", _qkv((9, 4), window=(2, 1), return_lse=True)),
    Case(OP, "window_left", _qkv((9, 4), window=(3, -1))),
    Case(OP, "window_right", _qkv((9, 4), window=(-1, 0), return_lse=True)),
    Case(OP, "window_0", _qkv((9, 4), window=(0, 0))),
    Case(OP, "window_wide", _qkv((9, 4), window=(100, 100))),
    Case(OP, "window_causal", _qkv((9, 4), window=(2, 2), causal=True)),
    Case(OP, "softcap", _qkv((5, 4), softcap=2.0, size=5.0, causal=True, return_lse=True)),
    Case(OP, "sinks", _qkv((5, 4), sinks=True, return_lse=True)),
    Case(OP, "sinks_cross", _qkv(*CROSS, sinks=True, causal=True, return_lse=True)),
    Case(
        OP,
        "everything",
        _qkv(
            (5, 0, 7),
            (6, 2, 7),
            heads=4,
            kv_heads=2,
            v_dim=6,
            sinks=True,
            causal=True,
            window=(3, -1),
            softcap=3.0,
            scale=0.5,
            return_lse=True,
        ),
    ),
    Case(OP, "large_scores", _qkv((5, 4), size=60.0, causal=True, return_lse=True)),
    # Products past float16's 65,504, which the scale brings back.
    Case(OP, "overflowing_scores", _qkv((5, 4), size=300.0, k_size=300.0, scale=1e-5, causal=True, return_lse=True)),
    Case(OP, "int64_offsets", _qkv((5, 0, 4), causal=True, rows={"offsets_dtype": "int64"})),
    Case(OP, "strided", _qkv((5, 4), causal=True, rows={"strided": True})),
    Case(OP, "ragged_dim_1", _qkv((5, 4), causal=True, rows={"ragged_dim": 1}, return_lse=True), tags=FORWARD_ONLY),
    *(Case(OP, f"long_{name}", _qkv(**LONG | changes)) for name, changes in LONGER.items()),
    Case(OP, "long_poisoned", _qkv((70, 3, 90), heads=4, head_dim=32, causal=True), tags=POISON),
    Case(OP, "poisoned", _qkv((5, 3, 4)), tags=POISON),
    Case(OP, "poisoned_causal", _qkv((5, 3, 4), causal=True, return_lse=True), tags=POISON),
    Case(OP, "poisoned_grouped", _qkv((5, 3, 4), heads=4, kv_heads=1, window=(2, 2), sinks=True), tags=POISON),
]


def _wrong(match: str, error: type[Exception] = ShapeError, *, name: str, **changes: Any) -> ErrorCase:
    def draw(rng: np.random.Generator) -> dict[str, Any]:
        return {**_qkv((3, 2), heads=4, kv_heads=2)(rng), **changes}

    return ErrorCase(OP, name, draw, error, match)


def _zeros(lengths: tuple[int, ...], *features: int) -> Rows:
    return Rows(np.zeros((sum(lengths), *features)), lengths)


ERRORS = [
    _wrong("q must be a scree.Array", ArgumentTypeError, name="dense", q=Dense(np.zeros((5, 4, 8)))),
    _wrong("q needs values", name="ndim", q=_zeros((3, 2), 8)),
    _wrong("multiple of the 3 heads", name="heads", k=_zeros((3, 2), 3, 8), v=_zeros((3, 2), 3, 8)),
    _wrong("same number of heads, got 2 and 4", name="kv_heads", v=_zeros((3, 2), 4, 8)),
    _wrong("same head_dim, got 8 and 4", name="head_dim", k=_zeros((3, 2), 2, 4)),
    _wrong("same batch size, got 2 and 3", name="batch", k=_zeros((3, 1, 1), 2, 8), v=_zeros((3, 1, 1), 2, 8)),
    _wrong("k and v need equal offsets", name="k_v_total", v=_zeros((3, 3), 2, 8)),
    _wrong("scale must be finite", ArgumentError, name="scale", scale=float("nan")),
    _wrong("softcap must be a positive number", ArgumentError, name="softcap", softcap=0.0),
    _wrong("window must be a pair", ArgumentTypeError, name="window_int", window=4),
    _wrong("window bounds must be -1", ArgumentError, name="window_negative", window=(-2, 0)),
    _wrong(r"sinks must have shape \(heads,\) = \(4,\)", name="sinks", sinks=Dense(np.zeros(3))),
    _wrong(
        "needs floating-point q, got int32",
        name="integers",
        q=Rows(np.zeros((5, 4, 8), np.int32), (3, 2)),
    ),
]
