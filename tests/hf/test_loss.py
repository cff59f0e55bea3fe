"""``scree.hf.causal_lm_loss`` in place of transformers' own: the same numbers, and no label from another row."""

import os

import pytest

if "transformers" not in os.environ.get("SCREE_REQUIRE", "").split(","):
    for name in ("torch", "transformers", "scree_torch"):
        pytest.importorskip(name, reason=f"{name} isn't installed")

import torch
import transformers

import scree.audit
import scree.hf
from scree_core.errors import ShapeError

from .models import GROUPED, LENGTHS, batch_of


@pytest.fixture(params=["sdpa", "scree"])
def model(request):
    scree.hf.register()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**GROUPED)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=request.param).eval()
    model.loss_function = scree.hf.causal_lm_loss
    return model


def own(model):
    """Return the model with transformers' own loss."""
    del model._loss_function
    return model


def loss_and_gradients(model, **batch):
    loss = model(**batch, use_cache=False).loss
    return [loss, *torch.autograd.grad(loss, [*model.parameters()])]


def padded():
    batch = batch_of()
    labels = batch.ids.masked_fill(batch.mask == 0, -100)
    return {"input_ids": batch.ids, "attention_mask": batch.mask, "labels": labels}


def packed():
    return scree.hf.PackedCollator()([{"input_ids": row} for row in batch_of().rows])


@pytest.mark.parametrize("count", [None, 40, torch.tensor(40), torch.tensor([40])])
@pytest.mark.parametrize("make", [padded, packed])
def test_loss_and_gradients_are_those_of_transformers(make, count, model):
    batch = make() | ({} if count is None else {"num_items_in_batch": count})
    ours, theirs = loss_and_gradients(model, **batch), loss_and_gradients(own(model), **batch)
    for got, want in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, want.reshape(got.shape), rtol=1e-5, atol=1e-6)


def test_labels_end_with_their_rows_whatever_the_collator_did():
    scree.hf.register()
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(**GROUPED), attn_implementation="scree"
    ).eval()
    ignored = packed()
    careless = ignored | {"labels": ignored["input_ids"]}
    assert (model(**careless).loss - model(**ignored).loss).abs() > 1e-3
    assert scree.audit.leaks(model, careless, probes="change")
    model.loss_function = scree.hf.causal_lm_loss
    torch.testing.assert_close(model(**careless).loss, model(**ignored).loss)
    assert not scree.audit.leaks(model, careless)


def test_micro_batches_add_up_to_the_full_batch(model):
    rows = batch_of().rows
    count = sum(LENGTHS) - len(LENGTHS)
    collate = scree.hf.PackedCollator()
    parts = [collate([{"input_ids": row} for row in part]) for part in (rows[:1], rows[1:3], rows[3:])]
    if model.config._attn_implementation == "sdpa":
        parts = [part | {"use_cache": False} for part in parts]
    total = sum(model(**part, num_items_in_batch=torch.tensor(count)).loss for part in parts)
    torch.testing.assert_close(total, model(**packed(), use_cache=False).loss, rtol=1e-6, atol=1e-6)


def test_labels_that_are_shifted_already_are_taken_as_they_are(model):
    batch = packed()
    logits = model(**batch, use_cache=False).logits
    shifted = torch.nn.functional.pad(batch["labels"], (0, 1), value=-100)[:, 1:]
    ours = scree.hf.causal_lm_loss(logits, None, shift_labels=shifted, cu_seq_lens_q=batch["cu_seq_lens_q"])
    torch.testing.assert_close(ours, scree.hf.causal_lm_loss(logits, batch["labels"]))


def test_where_no_label_counts_the_loss_is_0(model):
    batch = packed()
    assert model(**batch | {"labels": torch.full_like(batch["labels"], -100)}).loss == 0


def test_what_does_not_fit_is_refused():
    logits, labels = torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ShapeError, match=r"got \(2, 3, 5\) and \(2, 2\); with logits_to_keep give no labels"):
        scree.hf.causal_lm_loss(logits, labels[:, :2])
    with pytest.raises(ShapeError, match="5 classes, and vocab_size is 7"):
        scree.hf.causal_lm_loss(logits, labels, vocab_size=7)
    with pytest.raises(ShapeError, match="one packed sequence, and these are 2"):
        scree.hf.causal_lm_loss(logits, labels, cu_seq_lens_q=torch.tensor([0, 3]))
    with pytest.raises(ShapeError):
        scree.hf.causal_lm_loss(logits[:1], labels[:1], cu_seq_lens_q=torch.tensor([0, 2]))
