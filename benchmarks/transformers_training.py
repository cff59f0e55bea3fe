"""Training and evaluating a model of transformers on unequal rows: packed on scree's attention, and what there was.

    python benchmarks/transformers_training.py --json

A Llama of 125 million parameters with random weights, in bfloat16 on a GPU. A step is the forward pass with its loss,
the backward pass and AdamW's update; inference is the forward pass to the last hidden states. Memory is the peak of one
such call above the weights and what the optimizer keeps. Hidden states have to agree before anything is timed.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any

import torch
import transformers
from harness import Row, report
from on_gpu import accelerator, options
from triton_attention import until
from workloads import log_normal

import scree.hf

TRAINING = {"64 rows of mean 256": log_normal(64, mean=256, sigma=0.6)}
INFERENCE = {"32 rows of mean 1,024": log_normal(32, mean=1024, sigma=1.2)}
CANDIDATES = {
    "sdpa, padded": ("sdpa", "padded"),
    "sdpa, flattened": ("sdpa", "positions"),
    "flex, flattened": ("flex_attention", "positions"),
    "scree, padded": ("scree", "padded"),
    "scree, flattened": ("scree", "packed"),
}
AGAINST = "sdpa, padded"
CLOSE = 2e-2
"""Mean difference of hidden states, relative to their mean, in bfloat16."""


def model_of() -> Any:
    """Make the model."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32_000,
        hidden_size=768,
        intermediate_size=2_048,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=16_384,
        tie_word_embeddings=False,
    )
    return transformers.AutoModelForCausalLM.from_config(config).to("cuda", torch.bfloat16)


def batches(lengths: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Return the same rows padded, and flattened by transformers' own collator with and without lengths."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, 32_000, (length,), generator=generator) for length in lengths]
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones_like(row) for row in rows], batch_first=True)
    padded = {"input_ids": pad(rows, batch_first=True), "attention_mask": mask}
    padded["labels"] = padded["input_ids"].where(mask.bool(), -100)
    collate = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    packed = dict(collate([{"input_ids": row.tolist()} for row in rows]))
    positions = {name: packed[name] for name in ("input_ids", "labels", "position_ids")}
    found = {"padded": padded, "positions": positions, "packed": packed}
    return {
        told: {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in batch.items()}
        for told, batch in found.items()
    }


def step_of(model: Any, batch: dict[str, Any], optimizer: Any) -> Callable[[], torch.Tensor]:
    """Return a training step."""

    def step() -> torch.Tensor:
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def inference_of(model: Any, batch: dict[str, Any]) -> Callable[[], torch.Tensor]:
    """Return a forward pass to the last hidden states."""
    given = {name: x for name, x in batch.items() if name != "labels"}

    def infer() -> torch.Tensor:
        with torch.no_grad():
            return model.model(**given, use_cache=False).last_hidden_state

    return infer


def check(name: str, model: Any, batch: dict[str, Any], wanted: torch.Tensor | None) -> torch.Tensor:
    """Return the hidden states of real tokens; stop where they aren't those that are wanted."""
    hidden = inference_of(model.eval(), batch)()
    mask = batch.get("attention_mask")
    hidden = hidden[0] if mask is None else hidden[mask.bool()]
    if wanted is not None:
        off = ((hidden - wanted).abs().mean() / wanted.abs().mean()).item()
        if not off <= CLOSE:
            raise ValueError(f"{name}: hidden states are off by {off:.1e}")
    return hidden


def measured(run: Callable[[], torch.Tensor], calls: int) -> tuple[float, float]:
    """Return the median ms of a call, and the MiB that it takes at its peak above what is held before."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    times = []
    for _ in range(calls):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times), peak


def compare(name: str, lengths: tuple[int, ...], trains: bool, calls: int) -> dict[str, list[Row]]:
    """Measure all candidates on one batch; leave out those that fail or are wrong, but for scree's."""
    told, total = batches(lengths), sum(lengths)
    found: dict[str, tuple[float, float]] = {}
    wanted: torch.Tensor | None = None
    for candidate, (implementation, form) in CANDIDATES.items():
        model = model_of()
        try:
            model.set_attn_implementation(implementation)
            states = check(candidate, model, told[form], wanted)
            wanted = states if wanted is None else wanted
            del states
            model.train(trains)
            if trains:
                run = step_of(model, told[form], torch.optim.AdamW(model.parameters(), lr=0.0, fused=True))
            else:
                run = inference_of(model, told[form])
            found[candidate] = measured(run, calls)
        except Exception as failure:
            if implementation == "scree":
                raise
            print(f"left out: {candidate}: {type(failure).__name__}: {str(failure)[:200]}", flush=True)
        del model
        gc.collect()
        torch.cuda.empty_cache()
        print(f"{name}, {candidate}: {found.get(candidate)}", flush=True)
    kind = "training step" if trains else "inference"
    slots = len(lengths) * max(lengths)
    title = f"{kind}, {name}: {total:,} tokens of {slots:,} padded, {1 - total / slots:.0%} of them waste"
    base_ms, base_mib = found[AGAINST]
    return {
        title: [
            Row(each, ms, AGAINST, base_ms, f"{total / ms * 1e3:,.0f} tokens/s") for each, (ms, _) in found.items()
        ],
        f"{title}; peak memory": [
            Row(each, mib, AGAINST, base_mib, f"saves {1 - mib / base_mib:.0%}", "MiB")
            for each, (_, mib) in found.items()
        ],
    }


def main() -> None:
    """Measure everything, or what fits into the time."""
    chosen = options(__doc__, rounds=15, seconds=420)
    scree.hf.register()
    tables: dict[str, list[Row]] = {}
    with until(chosen.seconds):
        for trains, workloads in ((True, TRAINING), (False, INFERENCE)):
            for name, lengths in workloads.items():
                tables |= compare(name, lengths, trains, chosen.rounds)
    report("transformers-training", tables, write=chosen.json, library="transformers", accelerator=accelerator())


if __name__ == "__main__":
    main()
