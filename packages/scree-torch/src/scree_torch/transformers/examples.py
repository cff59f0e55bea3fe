"""Examples as data sets and tokenisers give them: which rows there are, and their fields, checked and joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_torch.transformers.joined import joined

FIELDS = frozenset({"input_ids", "labels", "attention_mask", "token_type_ids"})

_OF_A_TEXT = "pad batches of texts with one label each; with attn_implementation='scree' padding costs no attention"
_OF_A_TOKEN = "give labels instead, ignore_index where nothing is to be learnt"
MENDS = {
    "label": _OF_A_TEXT,
    "label_ids": _OF_A_TEXT,
    "completion_mask": _OF_A_TOKEN,
    "assistant_masks": _OF_A_TOKEN,
    "position_ids": "leave it out: positions are made anew for each example, from position_ids_start",
    "seq_lengths": "give documents that were not joined before, each as an example of its own",
}
"""What to do about fields that can't be packed; others are left out."""


class Examples:
    """The examples of one batch, in order, those of bins too.

    Parameters
    ----------
    given : sequence of mappings, or of lists of them
        A list or tuple among the examples is a bin, whose examples are rows as the others are.

    Raises
    ------
    ArgumentError
        There are none, or one has a field that isn't among ``FIELDS``.
    ArgumentTypeError
        One is no mapping.
    """

    def __init__(self, given: Any) -> None:
        self._given = given
        self.rows = [row for _, row in self._walk()] if _has_bins(given) else [*given]
        if not self.rows:
            raise ArgumentError("there are no examples; a batch needs one at least")
        for kind in set(map(type, self.rows)):
            if not issubclass(kind, Mapping):
                i = next(i for i, row in enumerate(self.rows) if type(row) is kind)
                raise ArgumentTypeError(
                    f'{self.name(i)} must be a mapping such as {{"input_ids": [5, 6]}}, got {kind.__name__}'
                )
        strange = set().union(*self.rows) - FIELDS
        for i, row in enumerate(self.rows if strange else ()):
            for field in row:
                if field in strange:
                    mend = MENDS.get(field, f"leave it out, say by dataset.remove_columns({field!r})")
                    raise ArgumentError(f"{self.name(i)} has {field!r}, which PackedCollator can't pack; {mend}")

    def _walk(self) -> Iterator[tuple[str, Any]]:
        """Go through the rows and what errors call them."""
        for i, one in enumerate(self._given):
            if isinstance(one, (list, tuple)):
                yield from ((f"examples[{i}][{j}]", row) for j, row in enumerate(one))
            else:
                yield f"examples[{i}]", one

    def name(self, i: int, field: str | None = None) -> str:
        """Return what errors call a row, or one of its fields."""
        name = next(name for at, (name, _) in enumerate(self._walk()) if at == i)
        return name if field is None else f'{name}["{field}"]'

    def ids(self) -> tuple[np.ndarray, list[int]]:
        """Return the token ids of all rows, int64 ``(total,)``, and the length of each row."""
        column = [row.get("input_ids") for row in self.rows]
        for i, ids in enumerate(column):
            if ids is None:
                has = ", ".join(map(repr, self.rows[i])) or "nothing"
                raise ArgumentError(f"{self.name(i)} has no 'input_ids' ({has} alone); tokenise the texts first")
        values, lengths = joined(column, lambda i: self.name(i, "input_ids"))
        if not values.size:
            raise ArgumentError(f"the batch has no tokens in {len(lengths)} examples; leave empty texts out")
        at = int(values.argmin())
        if values[at] < 0:
            i, token = _place(at, lengths)
            raise ArgumentError(
                f"{self.name(i, 'input_ids')} has {values[at]} at token {token}, and token ids are at least 0; "
                "are these labels?"
            )
        return values, lengths

    def column(self, field: str, lengths: list[int]) -> np.ndarray | None:
        """Return another field of all rows, int64 ``(total,)``, or None where no row has it."""
        column = [row.get(field) for row in self.rows]
        there = [x is not None for x in column]
        if not any(there):
            return None
        if not all(there):
            i, other = there.index(False), there.index(True)
            raise ArgumentError(
                f"{self.name(i)} has no {field!r}, and {self.name(other)} has; give it to all examples or to none"
            )
        values, own = joined(column, lambda i: self.name(i, field))
        self._check_lengths(field, range(len(column)), own, lengths)
        return values

    def check_masks(self, lengths: list[int]) -> None:
        """Check that attention masks, which tokenisers always return, leave no token out."""
        masked = [i for i, row in enumerate(self.rows) if row.get("attention_mask") is not None]
        if not masked:
            return
        masks = [self.rows[i]["attention_mask"] for i in masked]
        values, own = joined(masks, lambda n: self.name(masked[n], "attention_mask"), bools=True)
        self._check_lengths("attention_mask", masked, own, lengths)
        if values.all():
            return
        n, token = _place(int((values == 0).argmax()), own)
        raise ArgumentError(
            f"{self.name(masked[n], 'attention_mask')} is 0 at token {token}: the example is padded already, and "
            "padding would be packed too; tokenise with padding=False"
        )

    def _check_lengths(self, field: str, rows: Sequence[int], own: list[int], lengths: list[int]) -> None:
        for i, length in zip(rows, own, strict=True):
            if length != lengths[i]:
                raise ShapeError(
                    f"{self.name(i, field)} has {length} elements, and its input_ids {lengths[i]}; there must be one "
                    "for each token"
                )


def _has_bins(given: Any) -> bool:
    if isinstance(given, Mapping):
        raise ArgumentTypeError(
            "examples must be a list of them, got one mapping; give [dataset[i] for i in rows], for dataset[rows] has "
            "columns, and with DataLoader(batch_size=None) let the data set give bins, which are lists of examples"
        )
    if isinstance(given, (str, bytes, torch.Tensor)) or not isinstance(given, Sequence):
        raise ArgumentTypeError(f"examples must be a list of mappings with input_ids, got {type(given).__name__}")
    return not {*map(type, given)}.isdisjoint((list, tuple))


def _place(at: int, lengths: list[int]) -> tuple[int, int]:
    """Return in which row element ``at`` lies, and where in it."""
    ends = np.cumsum(lengths)
    i = int(np.searchsorted(ends, at, side="right"))
    return i, at - int(ends[i]) + lengths[i]
