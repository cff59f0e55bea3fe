"""Train a Llama of transformers on real text with its ``Trainer``, without padding, and once more with: the same loss.

    pip install "scree[torch,transformers]" accelerate
    python examples/06_finetune_packed.py

Two lines change: ``attn_implementation="scree"`` and ``data_collator=PackedCollator()``. A byte-level model of two
layers with random weights learns the paragraphs of Python's own help. The padded run, on PyTorch's own attention,
starts from the same weights and sees the same batches in the same order, so that its losses differ by rounding alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any

import torch
import transformers

import scree
import scree.hf

STEPS, BATCH, CONTEXT = 30, 8, 512
CLOSE = 1e-4

PARAGRAPHS = [paragraph.encode() for text in topics.values() for paragraph in text.split("\n\n")]
EXAMPLES = [{"input_ids": [*p[:CONTEXT]]} for p in PARAGRAPHS if len(p) > 1][: STEPS * BATCH]  # a byte is a token

CONFIG = transformers.LlamaConfig(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=CONTEXT,
)


def pad(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Collate examples side by side, as long as the longest."""
    ids, real = scree.to_padded(scree.pack([torch.tensor(example["input_ids"]) for example in examples]))
    return {"input_ids": ids, "attention_mask": real.long(), "labels": ids.masked_fill(~real, -100)}


def train(attention: str, collate: Callable[[Any], dict[str, Any]], folder: str) -> tuple[list[float], float, int]:
    """Return the loss of each step, the seconds, and how many tokens the model was given, with padding."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIG, attn_implementation=attention)
    given = 0

    def counting(examples: Any) -> dict[str, Any]:
        nonlocal given
        batch = collate(examples)
        given += batch["input_ids"].numel()
        return batch

    arguments = transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=3e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = transformers.Trainer(model, arguments, data_collator=counting, train_dataset=EXAMPLES)
    trainer.remove_callback(transformers.PrinterCallback)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    return [step["loss"] for step in trainer.state.log_history if "loss" in step], seconds, given


if __name__ == "__main__":
    torch.set_num_threads(1)  # so small a model gains nothing from more, and on a busy machine they wait for each other
    scree.hf.register()
    runs = {"packed": ("scree", scree.hf.PackedCollator()), "padded": ("sdpa", pad)}
    with tempfile.TemporaryDirectory() as folder:
        results = {name: train(attention, collate, folder) for name, (attention, collate) in runs.items()}
    for name, (losses, seconds, given) in results.items():
        print(
            f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f} after {len(losses)} steps, {seconds:.1f} s, "
            f"{given:,} tokens"
        )
    (packed, fast, few), (padded, slow, many) = results.values()
    apart = max(abs(a - b) for a, b in zip(packed, padded, strict=True))
    print(
        f"losses differ by {apart:.0e} at most; {many / few:.2f} times the tokens took {slow / fast:.2f} times as long"
    )
    assert apart < CLOSE, f"packed rows should train as padded ones do, and the losses differ by {apart}"
