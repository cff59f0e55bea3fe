"""``scree.audit`` on models of transformers: where packed rows reach each other, and where they don't."""

import os

import pytest

if "transformers" not in os.environ.get("SCREE_REQUIRE", "").split(","):
    for name in ("torch", "transformers", "scree_torch"):
        pytest.importorskip(name, reason=f"{name} isn't installed")

import torch
import transformers

import scree.audit
import scree.hf
from scree_core.errors import ArgumentError

from .models import GROUPED, SIZES, batch_of, left

pytestmark = [
    pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask"),  # by transformers
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),  # by torch.compile
]

ONWARDS = {(a, b) for a in range(4) for b in range(a + 1, 4)}


def llama(implementation, **options):
    scree.hf.register()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**GROUPED, **options)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()


def pairs(report, probe="change", seen_in="outputs"):
    return {(leak.source, leak.target) for leak in report if (leak.probe, leak.seen_in) == (probe, seen_in)}


@pytest.mark.parametrize("told", ["positions", "packed"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_packed_rows_that_mix_by_default_are_found_in_the_first_attention(implementation, told):
    gradients = implementation != "flex_attention"  # it has none on the CPU
    model, batch = llama(implementation), getattr(batch_of(), told)
    report = scree.audit.leaks(model, batch, probes="change", gradients=gradients)
    assert pairs(report) == ONWARDS
    assert report.origins["change", "outputs"].module == "model.layers.0.self_attn"
    assert report.origins["change", "outputs"].kind == "LlamaAttention"


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_without_a_cache_contents_stay_and_the_audit_agrees(implementation):
    batch = batch_of().positions | {"use_cache": False}
    report = scree.audit.leaks(llama(implementation), batch, gradients=implementation != "flex_attention")
    assert pairs(report) == pairs(report, seen_in="gradients") == set()


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("told", ["positions", "packed"])
def test_scree_keeps_packed_rows_apart(told, use_cache):
    report = scree.audit.leaks(llama("scree"), getattr(batch_of(), told) | {"use_cache": use_cache})
    assert not report
    assert report.watched == ("logits", "gradients of model.embed_tokens")
    assert (report.not_done, report.unmoved) == ({}, ())


@pytest.mark.parametrize("implementation", ["sdpa", "scree"])
def test_padded_rows_are_apart_and_padding_is_not_heard(implementation):
    batch = batch_of()
    for padded in ({"input_ids": batch.ids, "attention_mask": batch.mask}, left(batch)):
        report = scree.audit.leaks(llama(implementation), padded)
        assert not report
        assert report.rows == 4


def test_labels_of_the_collator_end_with_their_rows_and_plain_ones_do_not():
    batch = batch_of().packed
    ids = batch["input_ids"]
    report = scree.audit.leaks(llama("scree"), batch | {"labels": ids})
    assert pairs(report, seen_in="gradients") == {(1, 0), (2, 1), (3, 2)}
    assert report.origins["change", "gradients"].module == "loss"
    labels = ids.masked_fill(batch["position_ids"] == 0, -100)
    assert not scree.audit.leaks(llama("scree"), batch | {"labels": labels})


def test_an_encoder_that_is_told_nothing_of_its_rows_is_found():
    scree.hf.register()
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    model = transformers.BertModel._from_config(config, attn_implementation="scree").eval()
    batch = batch_of().packed
    rows = torch.repeat_interleave(torch.arange(4), batch["cu_seq_lens_q"].diff())[None]
    report = scree.audit.leaks(model, {"input_ids": batch["input_ids"]}, rows=rows, probes="change")
    assert pairs(report) == {(a, b) for a in range(4) for b in range(4) if a != b}
    assert report.origins["change", "outputs"].module == "encoder.layer.0.attention.self"
    assert not scree.audit.leaks(model, batch)


def test_dropout_in_training_is_refused_with_its_module():
    model = llama("sdpa", attention_dropout=0.5).train()
    with pytest.raises(ArgumentError, match=r"isn't deterministic.*self_attn \(LlamaAttention\).*model.eval\(\)"):
        scree.audit.leaks(model, batch_of().positions)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradient_checkpointing_is_audited():
    model = llama("scree").train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    report = scree.audit.leaks(model, batch_of().packed | {"use_cache": False})
    assert not report
    assert not report.not_done


@pytest.mark.filterwarnings("ignore")  # by transformers, on its way
def test_what_scree_cannot_see_an_audit_does():
    scree.hf.register()
    batch = batch_of()
    config = transformers.GPTJConfig(vocab_size=99, n_positions=128, n_embd=64, n_layer=2, n_head=4, rotary_dim=8)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.set_attn_implementation("scree")  # only logs that it has an attention of its own
    report = scree.audit.leaks(model, batch.packed, probes="change", gradients=False)
    assert pairs(report) == ONWARDS

    sizes = {"vocab_size": 99, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 96}
    config = transformers.DistilBertConfig(**sizes, dropout=0.0, attention_dropout=0.0)
    model = transformers.AutoModel.from_config(config, attn_implementation="scree").eval()
    assert not scree.audit.leaks(model, batch.packed)
    assert scree.audit.leaks(model, batch.positions, probes="change")  # which it doesn't hand to attention
