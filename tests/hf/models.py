"""Tiny models of transformers with random weights, and batches of unequal rows for them."""

from typing import NamedTuple

import pytest
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

VERSION = tuple(int(part) for part in transformers.__version__.split(".")[:2])


def needs(major, minor, why):
    """Mark a test of what transformers has only since a version."""
    reason = f"transformers {transformers.__version__}: before {major}.{minor} {why}"
    return pytest.mark.skipif((major, minor) > VERSION, reason=reason)


def config_of(name, options):
    """Return a config, or skip where this transformers has no such model."""
    if not hasattr(transformers, name):
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    return getattr(transformers, name)(**options)


def build(auto, config, implementation="sdpa", dtype=torch.float64, seed=0):
    """Return a model with random weights."""
    torch.manual_seed(seed)
    # By default experts are multiplied by a kernel that float64 has none of.
    chooses_experts = hasattr(transformers.PreTrainedModel, "set_experts_implementation")
    more = {"experts_implementation": "eager"} if chooses_experts else {}
    return in_dtype(auto.from_config(config, attn_implementation=implementation, **more), dtype).eval()


def on_scree(model):
    """Put a model on scree's attention; transformers only logs where it can't, and goes on with another."""
    model.set_attn_implementation("scree")
    assert model.config._attn_implementation == "scree"


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


def in_dtype(model, dtype):
    """Return a model in a dtype, but for the angles of its positions: many versions compute them in float32 alone."""
    model = model.to(dtype)
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq"):
            buffer.data = buffer.data.to(torch.float32)
    return model
