"""Tiny models of transformers with random weights, and batches of unequal rows for them."""

from typing import NamedTuple

import torch
import transformers

LENGTHS = (7, 1, 12, 5)
SIZES = {
    "vocab_size": 99,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,  # so that what attention adds is seen in the logits
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SIZES | {"num_key_value_heads": 2, "head_dim": 16}


class Batch(NamedTuple):
    """The same tokens padded on the right, and packed."""

    rows: list[torch.Tensor]
    ids: torch.Tensor
    mask: torch.Tensor
    packed: dict

    @property
    def positions(self):
        """What tells the rows by positions alone."""
        return {name: self.packed[name] for name in ("input_ids", "position_ids")}


def batch_of(lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(3, 99, (length,), generator=generator) for length in lengths]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    collate = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    packed = collate([{"input_ids": row.tolist()} for row in rows])
    del packed["labels"]
    return Batch(rows, ids, mask, dict(packed))


def left(batch):
    """Return ids and mask padded on the left, and the positions that generation would give them."""
    ids, mask = (
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left")
        for rows in (batch.rows, [torch.ones_like(row) for row in batch.rows])
    )
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
