"""Examples of unequal length into one batch without padding, for ``DataLoader`` and transformers' ``Trainer``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scree_core import from_lengths
from scree_core.bridges import to_hf_flattened
from scree_core.errors import ArgumentError, ArgumentTypeError
from scree_core.packing.checks import check_whole, check_word
from scree_torch.transformers.examples import Examples

LABELS = ("causal", "aligned", "none")
LEAST = {"multiple_of": 1, "pad_id": 0, "ignore_index": -(2**62), "position_ids_start": 0}


@dataclass(frozen=True, kw_only=True)
class PackedCollator:
    """Collate examples of unequal length into one packed batch ``(1, total)``, as ``collate_fn`` or ``data_collator``.

    In models with ``attn_implementation="scree"``, or one of FlashAttention's, no example sees another.

    Parameters
    ----------
    labels : {"causal", "aligned", "none"}, default "causal"
        What the labels of a batch are. ``"causal"`` is for models that learn the next token, and shift labels by
        themselves: the ``labels`` of the examples or, where none has any, their ``input_ids``; the first of each
        example is ignored, since the last token of another would be asked for it. ``"aligned"`` is for one label to
        each token, as in token classification and masked language models: the ``labels`` of the examples as they are.
        ``"none"`` is for inference: labels are left out.
    multiple_of : int, default 1
        Pad the batch to a multiple of so many tokens, for kernels and compilers that want round or few shapes: behind
        the examples comes a row of padding, with an entry of its own in ``cu_seq_lens_q`` and labels that are ignored.
    pad_id : int, default 0
        Token id of that padding.
    ignore_index : int, default -100
        Label of tokens that nothing is learnt from. Models of transformers and its ``Trainer`` take -100 for it.
    position_ids_start : int, default 0
        Position of the first token of each example; models like RoBERTa want 2.
    return_seq_idx : bool, default False
        Whether to add ``seq_idx``, the row of each token, which models with state spaces take (Mamba and hybrids).

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An option isn't one of those it may be; the message names it.

    Notes
    -----
    Nothing loops over tokens in Python: each field is joined at once. Lists are slower than arrays and tensors, since
    each of their numbers is an object. Collators are immutable and equal where their options are; they keep nothing
    between calls, and can be pickled, to go to the workers of a ``DataLoader``. Doesn't import transformers.

    Examples
    --------
    >>> import scree.hf
    >>> collate = scree.hf.PackedCollator(multiple_of=4)
    >>> batch = collate([{"input_ids": [5, 6, 7]}, {"input_ids": [8, 9]}])
    >>> batch["input_ids"].tolist(), batch["labels"].tolist()
    ([[5, 6, 7, 8, 9, 0, 0, 0]], [[-100, 6, 7, -100, 9, -100, -100, -100]])
    >>> batch["position_ids"].tolist(), batch["cu_seq_lens_q"].tolist(), batch["max_length_q"]
    ([[0, 1, 2, 0, 1, 0, 1, 2]], [0, 3, 5, 8], 3)
    """

    labels: str = "causal"
    multiple_of: int = 1
    pad_id: int = 0
    ignore_index: int = -100
    position_ids_start: int = 0
    return_seq_idx: bool = False

    def __post_init__(self) -> None:
        check_word("labels", self.labels, LABELS)
        for name, least in LEAST.items():
            object.__setattr__(self, name, check_whole(name, getattr(self, name), least))
        if not isinstance(self.return_seq_idx, bool):
            raise ArgumentTypeError(f"return_seq_idx must be True or False, got {self.return_seq_idx!r}")

    def __call__(self, examples: Sequence[Mapping[str, Any] | Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
        """Return all examples as one batch, in their order.

        Parameters
        ----------
        examples : sequence of mappings, or of lists of them
            Each with ``input_ids``: a list, NumPy array or tensor ``(length,)`` in host memory, of any integer dtype,
            which may be empty. ``labels`` and ``token_type_ids`` are of the same length, and all examples have them or
            none; an ``attention_mask`` of ones is left out. An entry that is None counts as missing. A list of
            examples is a bin, whose examples are rows as the others are.

        Returns
        -------
        dict
            ``input_ids`` and ``position_ids``, int64 ``(1, total)``; where there are any ``labels`` and
            ``token_type_ids``, int64 ``(1, total)``; where asked for ``seq_idx``, int32 ``(1, total)``;
            ``cu_seq_lens_q`` and ``cu_seq_lens_k``, one tensor, int32 ``(rows + 1,)``; ``max_length_q`` and
            ``max_length_k``, Python integers. All in new memory on the host, and no mask: packed rows must not have
            one, not even of ones.

        Raises
        ------
        ArgumentError
            There are no examples, or no tokens in any; a field is missing, some examples alone have it, or it is one
            that can't be packed; an attention mask has zeros; a token id is negative. The message names the example.
        ShapeError
            A field isn't 1-D, or not as long as the ``input_ids`` of its example; or there are more than 2**31 - 1
            tokens.
        ArgumentTypeError
            An example is no mapping, or a field doesn't hold whole numbers.
        """
        of = Examples(examples)
        ids, lengths = of.ids()
        of.check_masks(lengths)
        types = of.column("token_type_ids", lengths)
        labels = None if self.labels == "none" else of.column("labels", lengths)
        if self.labels == "causal" and labels is None:
            labels = ids
        if self.labels == "aligned" and labels is None:
            raise ArgumentError(
                f"labels='aligned' wants labels in each example, and {of.name(0)} has none; use labels='causal' to "
                "learn the next token, or labels='none'"
            )
        tail = -ids.size % self.multiple_of
        packed = from_lengths(_with_tail(ids, tail, self.pad_id), [*lengths, tail] if tail else lengths)
        batch = to_hf_flattened(
            packed,
            None if labels is None else packed.with_values(_with_tail(labels, tail, self.ignore_index)),
            separator_id=self.ignore_index if self.labels == "causal" else None,
            position_ids_start=self.position_ids_start,
            return_seq_idx=self.return_seq_idx,
        )
        if types is not None:
            batch["token_type_ids"] = _with_tail(types, tail, 0)[None]
        for name, x in batch.items():
            if isinstance(x, np.ndarray):  # one that is read-only is kept with the layout, and is no tensor's to change
                batch[name] = torch.from_numpy(x if x.flags.writeable else x.copy())
        batch["cu_seq_lens_k"] = batch["cu_seq_lens_q"]  # one object, by which attention sees that they are the same
        return batch


def _with_tail(values: np.ndarray, tail: int, fill: int) -> np.ndarray:
    return np.concatenate([values, np.full(tail, fill, np.int64)]) if tail else values
