"""Training and evaluating a model of transformers on unequal rows: packed on scree's attention, and what there was.

    python benchmarks/transformers_training.py --json
    python benchmarks/transformers_training.py --device cpu --json

A Llama with random weights: on a GPU of 125 million parameters in bfloat16, on a CPU of 1 million in float32 and with
rows a quarter as long. A step is the forward pass with its loss, the backward pass and AdamW's update; inference is
the forward pass to the last hidden states. Memory is the peak of one such call above the weights and what the optimizer
keeps; on a CPU that of tensors (``tensor_peak.py``). What is saved depends on the lengths drawn, so there are several
draws, with seeds from 0 on. Hidden states have to agree before anything is timed.
"""

from __future__ import annotations

import argparse
import copy
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tensor_peak
import torch
import transformers
from draws import DOCSTRINGS, FUNCTIONS, INFERENCE, TOPICS, TRAINING, LogNormal, Real
from harness import medians, report
from on_gpu import accelerator
from training_report import AGAINST, Draw, line, summaries
from triton_attention import until

import scree.hf

LONG_S = 3
"""Seconds for the timed calls of a candidate that has the device for itself: those of seconds need fewer rounds."""
TRAINS, INFERS = "training step", "inference"
OUT_OF_MEMORY = "out of memory"
CANDIDATES = {
    AGAINST: ("sdpa", "padded"),
    "sdpa, flattened": ("sdpa", "positions"),
    "flex, flattened": ("flex_attention", "positions"),
    "scree, padded": ("scree", "padded"),
    "scree, flattened": ("scree", "packed"),
}
WITH_LOSS = "scree, flattened, with its loss"
"""A training step whose loss is ``scree.hf.causal_lm_loss`` too; the others have transformers' own."""


@dataclass(frozen=True)
class Setting:
    """What is measured on a kind of device."""

    dtype: torch.dtype
    close: float
    """Mean difference of hidden states, relative to their mean."""
    sizes: dict[str, int]
    sources: tuple[tuple[str, LogNormal | Real], ...]
    without: tuple[str, ...] = ()
    """Implementations of attention that can't train there."""
    interleaved: bool = False
    """Whether candidates take turns, as on a machine that does other things too; else each has all memory."""
    draws: int = 5
    rounds: int = 5


SETTINGS = {
    "cuda": Setting(
        dtype=torch.bfloat16,
        close=2e-2,
        sizes={
            "vocab_size": 32_000,
            "hidden_size": 768,
            "intermediate_size": 2_048,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
        },
        sources=(
            (TRAINS, TRAINING),
            (INFERS, INFERENCE),
            (TRAINS, Real(64, FUNCTIONS)),
            (INFERS, Real(32, TOPICS)),
        ),
    ),
    "cpu": Setting(
        dtype=torch.float32,
        close=1e-5,
        sizes={
            "vocab_size": 2_000,
            "hidden_size": 128,
            "intermediate_size": 352,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        sources=(
            (TRAINS, LogNormal(64, 64, TRAINING.sigma)),
            (INFERS, LogNormal(32, 256, INFERENCE.sigma)),
            (TRAINS, Real(64, DOCSTRINGS)),
            (INFERS, Real(32, DOCSTRINGS)),
        ),
        without=("flex_attention",),
        interleaved=True,
        draws=3,
        rounds=3,
    ),
}


@dataclass
class Bench:
    """A model on its device, an optimizer of its weights, and how often to measure."""

    device: str
    setting: Setting
    rounds: int
    model: Any = field(init=False)
    optimizer: Any = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            **self.setting.sizes, max_position_embeddings=32_768, tie_word_embeddings=False
        )
        with torch.device(self.device):
            self.model = transformers.AutoModelForCausalLM.from_config(config, dtype=self.setting.dtype)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, fused=True)  # weights stay what they are

    def attending(self, implementation: str) -> Any:
        """Return a model of the same weights with another attention."""
        model = copy.deepcopy(self.model, {id(weights): weights for weights in self.model.parameters()})
        model.set_attn_implementation(implementation)
        return model

    def step_of(self, model: Any, batch: dict[str, Any]) -> Callable[[], torch.Tensor]:
        """Return a training step."""
        model.train()

        def step() -> torch.Tensor:
            loss = model(**batch, use_cache=False).loss
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            return self.done(loss.detach())

        return step

    def inference_of(self, model: Any, batch: dict[str, Any]) -> Callable[[], torch.Tensor]:
        """Return a forward pass to the last hidden states."""
        model.eval()
        given = {name: x for name, x in batch.items() if name != "labels"}

        def infer() -> torch.Tensor:
            with torch.no_grad():
                return self.done(model.model(**given, use_cache=False).last_hidden_state)

        return infer

    def done(self, x: torch.Tensor) -> torch.Tensor:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return x

    def peak_mib(self, run: Callable[[], torch.Tensor]) -> float:
        """Return what a call takes at its peak above what is held before."""
        if self.device == "cpu":
            return tensor_peak.peak_bytes(run) / 2**20
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def free(self) -> None:
        """Give back what a candidate took, also one that failed halfway."""
        self.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def batches(self, lengths: tuple[int, ...]) -> dict[str, dict[str, Any]]:
        """Return the same rows padded, and flattened by transformers' own collator with and without lengths."""
        generator = torch.Generator().manual_seed(0)
        tokens = self.setting.sizes["vocab_size"]
        rows = [torch.randint(3, tokens, (length,), generator=generator) for length in lengths]
        pad = torch.nn.utils.rnn.pad_sequence
        mask = pad([torch.ones_like(row) for row in rows], batch_first=True)
        padded = {"input_ids": pad(rows, batch_first=True), "attention_mask": mask}
        padded["labels"] = padded["input_ids"].where(mask.bool(), -100)
        collate = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)
        packed = dict(collate([{"input_ids": row.tolist()} for row in rows]))
        positions = {name: packed[name] for name in ("input_ids", "labels", "position_ids")}
        return {
            told: {name: x.to(self.device) if isinstance(x, torch.Tensor) else x for name, x in batch.items()}
            for told, batch in {"padded": padded, "positions": positions, "packed": packed}.items()
        }

    def check(self, model: Any, batch: dict[str, Any], wanted: torch.Tensor | None) -> torch.Tensor:
        """Return the hidden states of real tokens; stop where they aren't those that are wanted."""
        hidden = self.inference_of(model, batch)()
        mask = batch.get("attention_mask")
        hidden = hidden[0] if mask is None else hidden[mask.bool()]
        if wanted is not None:
            off = ((hidden - wanted).abs().mean() / wanted.abs().mean()).item()
            if not off <= self.setting.close:
                raise ValueError(f"hidden states are off by {off:.1e}")
        return hidden

    def measure(self, kind: str, source: LogNormal | Real, seed: int) -> Draw:
        """Measure all candidates on one batch; leave out those that fail or are wrong, but for scree's."""
        lengths = source.draw(seed)
        told, draw = self.batches(lengths), Draw(kind, str(source), seed, len(lengths), sum(lengths), max(lengths))
        runs: dict[str, Callable[[], torch.Tensor]] = {}
        wanted: torch.Tensor | None = None
        candidates = CANDIDATES | ({WITH_LOSS: CANDIDATES["scree, flattened"]} if kind == TRAINS else {})
        for candidate, (implementation, form) in candidates.items():
            if implementation in self.setting.without:
                continue
            try:
                model = self.attending(implementation)
                if candidate == WITH_LOSS:
                    model.loss_function = scree.hf.causal_lm_loss
                states = self.check(model, told[form], wanted)
                wanted = states if wanted is None else wanted
                del states
                run = (self.step_of if kind == TRAINS else self.inference_of)(model, told[form])
                if kind == TRAINS:
                    run()  # the check has warmed up the rest
                start = time.perf_counter()
                draw.mib[candidate] = self.peak_mib(run)
                if self.setting.interleaved:
                    runs[candidate] = run
                else:
                    fitting = int(LONG_S / (time.perf_counter() - start))
                    draw.ms |= medians({candidate: run}, max(1, min(self.rounds, fitting)))
            except Exception as failure:
                draw.left_out[candidate] = reason(failure)
                draw.mib.pop(candidate, None)
                if implementation == "scree" and draw.left_out[candidate] != OUT_OF_MEMORY:
                    raise
            model = run = None
            self.free()
        if runs:
            draw.ms |= medians(runs, self.rounds)
        self.free()
        return draw


def reason(failure: Exception) -> str:
    """Return why a candidate has no figures, in a line."""
    said = str(failure).lower()
    if isinstance(failure, torch.OutOfMemoryError) or "out of memory" in said or "can't allocate memory" in said:
        return OUT_OF_MEMORY
    return f"{type(failure).__name__}: {str(failure)[:200]}"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=SETTINGS, default="cuda", help="default: cuda")
    parser.add_argument("--draws", type=int, help="batches of each kind, seeds from 0 (default 5, on a CPU 3)")
    parser.add_argument("--rounds", type=int, help="timed calls of each candidate (default 5, on a CPU 3)")
    parser.add_argument("--json", action="store_true", help="also write the figures to benchmarks/results/")
    parser.add_argument("--seconds", type=int, help="stop then, with what there is (default 360, on a CPU 3,600)")
    chosen = parser.parse_args()
    setting = SETTINGS[chosen.device]
    defaults = {"draws": setting.draws, "rounds": setting.rounds, "seconds": 360 if chosen.device == "cuda" else 3600}
    for name, default in defaults.items():
        given = getattr(chosen, name)
        if given is not None and given < 1:
            parser.error(f"--{name} must be at least 1, got {given}")
        setattr(chosen, name, default if given is None else given)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is here; --device cpu measures a smaller model on the CPU")
    return chosen


def main() -> None:
    """Measure everything, or what fits into the time: a draw of each kind, then another."""
    chosen = options()
    scree.hf.register()
    if chosen.device == "cpu":
        tensor_peak.check()
    else:
        torch._dynamo.config.recompile_limit = 64  # each draw has its shapes, and flex would run uncompiled
    draws: list[Draw] = []
    setting = SETTINGS[chosen.device]
    bench = Bench(chosen.device, setting, chosen.rounds)
    try:
        with until(chosen.seconds):
            for seed in range(chosen.draws):
                for kind, source in setting.sources:
                    draws.append(bench.measure(kind, source, seed))
                    print(line(draws[-1]), flush=True)
    finally:  # a failure costs its own draw, not those before it
        keep(draws, chosen)


def keep(draws: list[Draw], chosen: argparse.Namespace) -> None:
    """Print and keep all draws."""
    on_cpu = chosen.device == "cpu"
    report(
        "transformers-training" + ("-cpu" if on_cpu else ""),
        summaries(draws),
        write=chosen.json and bool(draws),
        library="transformers",
        accelerator="" if on_cpu else accelerator(),
        also={"torch": torch.__version__, "draws": [vars(draw) for draw in draws]},
    )


if __name__ == "__main__":
    main()
