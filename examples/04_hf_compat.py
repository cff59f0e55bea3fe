"""Bring batches of Hugging Face to scree and back: every bit the same, and how many of the bytes are copied.

    pip install "scree[torch,transformers]"
    python examples/04_hf_compat.py

A pipeline that exists already has tokenizers, models and losses with forms of their own for rows of unequal length.
Rows become a ``scree.Array`` at the boundary and go out in the form they came in. Here each way is checked to the bit;
then a small Llama with random weights reads topics of Python's own help, padded as the pipeline had it and packed: the
same to rounding. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pydoc_data.topics import topics
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, pre_tokenizers

import scree
import scree.bridges
import scree.hf

BATCH, VOCABULARY, WIDTH = 16, 512, 64

Pair = tuple[torch.Tensor, torch.Tensor]
Encoded = Pair  # token ids and their attention mask


def make_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Learn a byte-level tokenizer from the help's topics."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": ["<pad>"], "initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(topics.values(), tokenizers.trainers.BpeTrainer(vocab_size=VOCABULARY, **options))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def make_model() -> transformers.PreTrainedModel:
    """Return a Llama of two layers with random weights."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.1}
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads)).eval()


# ------------------------------------------------------------------ every bit, there and back


def same_bits(got: torch.Tensor, want: torch.Tensor) -> bool:
    """Tell whether two tensors are alike to the bit, NaN and -0.0 too."""
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        return False
    return torch.equal(*(x.contiguous().flatten().view(torch.uint8) for x in (got, want)))


def report(form: str, way: str, given: Iterable[torch.Tensor], got: Sequence[torch.Tensor], *pairs: Pair) -> None:
    """Print how a batch crossed the boundary, and how much of it lies in memory that was given, after checking it."""
    for number, (ours, theirs) in enumerate(pairs):
        assert same_bits(ours, theirs), f"{form}, {way}: pair {number} differs"
    memory = {x.untyped_storage().data_ptr() for x in given}
    shared = sum(x.nbytes for x in got if x.untyped_storage().data_ptr() in memory)
    total = sum(x.nbytes for x in got)
    print(f"{form:36}{way:7}{'same':>6}{total:11,}{shared:11,}{total - shared:11,}")


def parts(arr: scree.Array[torch.Tensor]) -> Pair:
    """Return what an Array is made of."""
    return arr.values, arr.offsets


def cross_padded(form: str, values: torch.Tensor, mask: torch.Tensor, side: str) -> scree.Array[torch.Tensor]:
    """Take a padded batch with its attention mask there and back."""
    arr = scree.bridges.from_hf_padded(values, mask)
    report(
        form, "there", (values, mask), parts(arr), (arr.values, values[mask == 1]), (arr.lengths.long(), mask.sum(1))
    )
    again = scree.bridges.to_hf_padded(arr, side)
    report(form, "back", parts(arr), again, (again[0], values), (again[1], mask))
    return arr


def cross_flattened(form: str, batch: dict[str, Any]) -> scree.Array[torch.Tensor]:
    """Take a batch of ``DataCollatorWithFlattening`` there and back, with all that it tells of the rows."""
    given = [x for x in batch.values() if isinstance(x, torch.Tensor)]
    arr = scree.bridges.from_hf_flattened(batch["input_ids"], batch)
    report(
        form, "there", given, parts(arr), (arr.values[None], batch["input_ids"]), (arr.offsets, batch["cu_seq_lens_q"])
    )
    again = scree.bridges.to_hf_flattened(arr, labels=arr)
    assert {name: type(x) for name, x in again.items()} == {name: type(x) for name, x in batch.items()}
    assert again["max_length_q"] == batch["max_length_q"]
    names = [name for name, x in batch.items() if isinstance(x, torch.Tensor) and name != "cu_seq_lens_k"]  # it is _q
    report(form, "back", parts(arr), [again[n] for n in names], *((again[n], batch[n]) for n in names))
    return arr


def cross_nested(form: str, arr: scree.Array[torch.Tensor]) -> None:
    """Take an Array to PyTorch's nested tensors and back."""
    nested = scree.bridges.to_torch_nested(arr)
    lies = nested.values(), nested.offsets()
    report(form, "there", parts(arr), lies, *zip(nested.unbind(), scree.unpack(arr), strict=True))
    again = scree.bridges.from_torch_nested(nested)
    report(form, "back", lies, parts(again), *zip(parts(again), parts(arr), strict=True))


def cross_flash_attn(form: str, arr: scree.Array[torch.Tensor]) -> None:
    """Tell ``flash_attn_varlen_func`` the rows, and wrap values that lie by its cumulative lengths."""
    told = scree.bridges.flash_attn_kwargs(arr)
    lies = arr.values, told["cu_seqlens_q"]
    report(form, "there", parts(arr), lies, *zip(lies, parts(arr), strict=True))
    again = scree.from_cu_seqlens(*lies, max_length=told["max_seqlen_q"])
    report(form, "back", lies, parts(again), *zip(parts(again), parts(arr), strict=True))


# ------------------------------------------------------------------ a model, as it was and as it is


@torch.inference_mode()
def read_padded(model: transformers.PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Return hidden states, a mean and a log-probability for each text, as one writes them with masks."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions, output_hidden_states=True)
    hidden = out.hidden_states[-1] * mask[..., None]
    means = hidden.sum(1) / mask.sum(1, keepdim=True)
    chances = out.logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return [hidden, means, (chances * mask[:, :-1] * mask[:, 1:]).sum(1)]


@torch.inference_mode()
def read_packed(
    model: transformers.PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, side: str
) -> list[torch.Tensor]:
    """Return the same from the same, without padding in between."""
    tokens = scree.bridges.from_hf_padded(ids, mask)
    batch = scree.bridges.to_hf_flattened(tokens)
    out = model(**batch, output_hidden_states=True)
    hidden, logits = (scree.bridges.from_hf_flattened(x, batch) for x in (out.hidden_states[-1], out.logits))
    chances = -scree.varlen_cross_entropy(logits, tokens, reduction="row_sum")
    return [scree.bridges.to_hf_padded(hidden, side)[0], scree.varlen_mean(hidden), chances]


def check_rounding(got: torch.Tensor, want: torch.Tensor, terms: int) -> str:
    """Return the largest difference, after checking that it is rounding and nothing else."""
    difference, largest = (got - want).abs().max().item(), want.abs().max().item()
    # Adding up n numbers in another order changes the sum by up to n roundings; no sum here has more terms.
    allowed = terms * torch.finfo(want.dtype).eps * largest
    assert difference <= allowed, f"packed and padded differ by {difference:.1e}, rounding explains {allowed:.1e}"
    return f"{difference:.0e} of {largest:.0f}"


def show_crossings(right: Encoded, left: Encoded, flattened: dict[str, Any]) -> None:
    """Print what each form of one batch costs at the boundary."""
    print(f"{'form':36}{'way':7}{'bits':>6}{'bytes':>11}{'shared':>11}{'copied':>11}")
    first, *others = (
        cross_padded("token ids, padded on the right", *right, "right"),
        cross_padded("token ids, padded on the left", *left, "left"),
        cross_flattened("token ids, flattened", flattened),
    )
    for arr in others:
        assert all(map(same_bits, parts(arr), parts(first))), "a batch is one Array, whatever form it came in"

    mask = right[1]
    anything = torch.randint(-(2**15), 2**15, (*mask.shape, WIDTH), dtype=torch.int16).view(torch.bfloat16)
    anything[mask == 0] = 0
    states = cross_padded("bfloat16 of any bits, padded", anything, mask, "right")
    cross_nested("bfloat16 of any bits, nested tensor", states)
    cross_flash_attn("bfloat16 of any bits, cu_seqlens", states)


def show_model(right: Encoded, left: Encoded) -> None:
    """Print how far a model's results on packed rows are from those on padded ones."""
    model = make_model()
    padded = [read_padded(model, *batch) for batch in (right, left)]
    scree.hf.register()
    model.set_attn_implementation("scree")
    packed = [read_packed(model, *batch, side) for batch, side in ((right, "right"), (left, "left"))]
    assert all(map(same_bits, packed[0][1:], packed[1][1:])), "the side that padding was on must leave no trace"

    mask = right[1]
    print(f"\nA Llama on {mask.sum():,} packed tokens, and on {mask.numel():,} slots with padding;")
    print("the largest difference, and the largest number:\n")
    print(f"{'':16}{'hidden states':>20}{'mean of each text':>20}{'log-probability':>20}")
    for side, got, want in zip(("right", "left"), packed, padded, strict=True):
        apart = [check_rounding(*pair, terms=mask.shape[1]) for pair in zip(got, want, strict=True)]
        print(f"padded {side:9}" + "".join(f"{text:>20}" for text in apart))


def main() -> None:
    """Make one batch in three forms, and show both."""
    tokenizer = make_tokenizer()
    texts = sorted(topics.values(), key=len)[::3][:BATCH]
    right, left = (
        (encoded["input_ids"], encoded["attention_mask"])
        for encoded in (tokenizer(texts, padding=True, padding_side=s, return_tensors="pt") for s in ("right", "left"))
    )
    collate = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    flattened = collate([{"input_ids": ids} for ids in tokenizer(texts)["input_ids"]])
    show_crossings(right, left, flattened)
    show_model(right, left)


if __name__ == "__main__":
    main()
