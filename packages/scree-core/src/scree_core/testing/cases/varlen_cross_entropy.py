"""Cases of ``varlen_cross_entropy``."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.testing.case import LENGTHS, Case, Dense, ErrorCase, Rows, draw_rows

OP = "varlen_cross_entropy"
REDUCTIONS = ("sum", "row_sum", "token_mean", "row_mean_token_mean")


def _loss(
    lengths: tuple[int, ...],
    vocab: int = 11,
    *,
    dtype: str = "int32",
    ignored: float = 0.2,
    ignore_index: int | None = None,
    dense: bool = False,
    size: float = 1.0,
    rows: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    def draw(rng: np.random.Generator) -> dict[str, Any]:
        total, word = sum(lengths), -100 if ignore_index is None else ignore_index
        logits = Rows(size * draw_rows(rng, lengths, vocab).values, lengths, **(rows or {}))
        drawn = rng.integers(0, vocab, total)
        found = np.where(rng.random(total) < ignored, word, drawn).astype(dtype)
        chosen = {} if ignore_index is None else {"ignore_index": ignore_index}
        labels = (
            Dense(found) if dense else Rows(found, lengths, offsets_dtype=(rows or {}).get("offsets_dtype", "int32"))
        )
        return {"logits": logits, "labels": labels, **chosen, "reduction": "none", **options}

    return draw


def _minus_infinity(rng: np.random.Generator) -> dict[str, Any]:
    arguments = _loss((3, 4), ignored=0, shift=False)(rng)
    values, labels = arguments["logits"].values, arguments["labels"].values
    values[1, :] = -np.inf  # no class is possible
    values[4, (labels[4] + 1) % 11] = -np.inf
    values[5, labels[5]] = -np.inf  # the class is impossible
    return arguments


CASES = [
    *(Case(OP, name, _loss(lengths)) for name, lengths in LENGTHS.items()),
    *(Case(OP, f"unshifted_{name}", _loss(lengths, shift=False)) for name, lengths in LENGTHS.items()),
    *(Case(OP, name, _loss((3, 1, 0, 5), reduction=name)) for name in REDUCTIONS),
    *(Case(OP, f"unshifted_{name}", _loss((3, 1, 0, 5), reduction=name, shift=False)) for name in REDUCTIONS),
    *(Case(OP, f"{name}_of_nothing", _loss((2, 0, 3), reduction=name, ignored=1)) for name in REDUCTIONS),
    *(Case(OP, f"{name}_of_no_rows", _loss((), reduction=name)) for name in REDUCTIONS),
    *(Case(OP, f"{name}_num_items", _loss((3, 5), reduction=name, num_items=9)) for name in REDUCTIONS[2:]),
    Case(OP, "num_items_0", _loss((3, 5), reduction="token_mean", num_items=0)),
    Case(OP, "num_items_array", _loss((3, 5), reduction="token_mean", num_items=Dense(np.array(9, np.int32)))),
    Case(OP, "rows_of_one", _loss((1, 1, 1))),
    Case(OP, "all_ignored", _loss((3, 4), ignored=1)),
    Case(OP, "none_ignored", _loss((3, 4), ignored=0)),
    Case(OP, "ignored_class", _loss((3, 4), ignored=0.3, ignore_index=2)),
    Case(OP, "labels_int8", _loss((3, 4), dtype="int8")),
    Case(OP, "labels_uint8", _loss((3, 4), dtype="uint8", ignored=0.3, ignore_index=200)),
    Case(OP, "dense_labels", _loss((3, 0, 4), dense=True)),
    Case(OP, "one_class", _loss((3, 4), 1)),
    Case(OP, "wide", _loss((3, 4), 500)),
    Case(OP, "large", _loss((3, 4), size=60.0)),
    Case(OP, "minus_infinity", _minus_infinity),
    Case(OP, "int64_offsets", _loss((3, 0, 5), rows={"offsets_dtype": "int64"})),
    Case(OP, "strided", _loss((3, 0, 5), rows={"strided": True})),
    Case(OP, "poisoned", _loss((3, 5, 2)), tags=frozenset({"poison"})),
    Case(OP, "poisoned_unshifted", _loss((3, 5, 2), shift=False), tags=frozenset({"poison"})),
]


def _wrong(match: str, error: type[Exception] = ShapeError, *, name: str, **changes: Any) -> ErrorCase:
    return ErrorCase(OP, name, lambda rng: {**_loss((3, 2))(rng), **changes}, error, match)


ERRORS = [
    _wrong("logits must be a scree.Array", ArgumentTypeError, name="dense", logits=Dense(np.zeros((5, 11)))),
    _wrong(
        r"needs logits with values \(total, vocab\), .* got \(5, 2, 11\)",
        name="features",
        logits=Rows(np.zeros((5, 2, 11)), (3, 2)),
    ),
    _wrong("with ragged_dim=1", name="ragged_dim_1", logits=Rows(np.zeros((5, 11)), (3, 2), ragged_dim=1)),
    _wrong(r"a class at least, got \(5, 0\)", name="no_class", logits=Rows(np.zeros((5, 0)), (3, 2))),
    _wrong("needs floating-point logits, got int32", name="integers", logits=Rows(np.zeros((5, 11), np.int32), (3, 2))),
    _wrong("logits and labels need equal offsets", name="offsets", labels=Rows(np.zeros(6, np.int32), (3, 3))),
    _wrong(r"labels must have shape \(total,\) = \(5,\), got \(4,\)", name="few", labels=Dense(np.zeros(4, np.int32))),
    _wrong("labels must be integers .* got float32", name="float_labels", labels=Dense(np.zeros(5))),
    _wrong("labels must be integers .* got uint32", name="uint32_labels", labels=Dense(np.zeros(5, np.uint32))),
    _wrong("reduction must be one of .* got 'mean'", ArgumentError, name="reduction", reduction="mean"),
    _wrong("shift must be True or False, got 1", ArgumentTypeError, name="shift", shift=1),
    _wrong("reduction='none' divides nothing", ArgumentError, name="num_items_of_none", num_items=3),
    _wrong(
        "num_items must be 0 or more, got -1",
        ArgumentError,
        name="negative_num_items",
        reduction="token_mean",
        num_items=-1,
    ),
    _wrong(
        "num_items must be an integer, or an array",
        ArgumentTypeError,
        name="num_items",
        reduction="token_mean",
        num_items=2.5,
    ),
    _wrong("ignore_index must be an integer, got None", ArgumentTypeError, name="ignore_index", ignore_index=None),
    _wrong("ignore_index must fit in int32", ArgumentError, name="large_ignore_index", ignore_index=2**40),
]
