"""Which documents of a packed batch hear of each other in a model, and in which module.

    python examples/07_audit.py, or python -m scree audit

A batch holds a few documents end to end. A small model runs on it with attention that is told of them and with
attention that isn't, and learns with labels that end with each document and with ones that don't. Where transformers
is installed, a small Llama of its own follows, on the batch of its own collator.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import scree
import scree.audit

WIDTH, HEADS, VOCABULARY, IGNORED = 32, 4, 256, -100
TEXTS = [text.encode()[:length] for text, length in zip(topics.values(), (40, 9, 70, 25), strict=False)]
DOCUMENTS = scree.pack([torch.frombuffer(bytearray(text), dtype=torch.uint8).long() for text in TEXTS])

Attend = Callable[[scree.Array, scree.Array, scree.Array], torch.Tensor]


def attend_within_rows(q: scree.Array, k: scree.Array, v: scree.Array) -> torch.Tensor:
    """Attend to earlier tokens of the same document: ``(total, heads, head_dim)``."""
    return scree.varlen_attention(q, k, v, causal=True).values


def attend_to_all(q: scree.Array, k: scree.Array, v: scree.Array) -> torch.Tensor:
    """Attend to all earlier tokens of the batch, as a causal mask alone does."""
    q, k, v = (x.values.transpose(0, 1) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1)


class Model(nn.Module):
    """A language model of one layer on packed documents."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.attention = Attention(attend)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, input_ids: scree.Array, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss, and logits ``(total, vocabulary)``."""
        x = input_ids.with_values(self.embed(input_ids.values))
        logits = self.head(x.values + self.attention(x))
        return {"loss": functional.cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORED), "logits": logits}


class Attention(nn.Module):
    """Self-attention."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend, self.qkv = attend, nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: scree.Array) -> torch.Tensor:
        """Return what each token hears of others: ``(total, width)``."""
        q, k, v = (y.unflatten(-1, (HEADS, -1)) for y in self.qkv(x.values).chunk(3, dim=-1))
        return self.attend(*map(x.with_values, (q, k, v))).flatten(-2)


def small_models() -> Iterator[tuple[str, bool, Any, dict[str, Any]]]:
    """Yield a title, whether documents are to be kept apart, a model, and its batch."""
    first = DOCUMENTS.positions == 0
    separated = DOCUMENTS.values.masked_fill(first, IGNORED)  # no token learns the first of the next document
    batches = {"labels within documents": separated, "labels across documents": DOCUMENTS.values}
    for attend, (told, labels) in itertools.product((attend_within_rows, attend_to_all), batches.items()):
        title = f"{attend.__name__.replace('_', ' ')}, {told}"
        keeps = attend is attend_within_rows and labels is separated
        yield title, keeps, Model(attend), {"input_ids": DOCUMENTS, "labels": labels}


def llamas() -> Iterator[tuple[str, bool, Any, dict[str, Any]]]:
    """Yield the same for a Llama of transformers, with the attention that it has and with scree's."""
    import transformers  # pyrefly: ignore[missing-import]

    import scree.hf

    try:
        scree.hf.register()
    except scree.BackendNotInstalledError as error:  # an old transformers
        print(f"{error}\n")
        return
    collate = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    batch = dict(collate([{"input_ids": list(text)} for text in TEXTS]))
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    config = transformers.LlamaConfig(**sizes, vocab_size=VOCABULARY)
    for name in ("eager", "sdpa", "scree"):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=name).eval()
        yield f"transformers' Llama, attn_implementation={name!r}, use_cache=True", name == "scree", model, batch


def main() -> int:
    """Audit all of them, and return 1 if one isn't what it is known to be."""
    print(f"{len(DOCUMENTS)} documents of {DOCUMENTS.lengths.tolist()} tokens, end to end\n")
    surprises = 0
    for title, keeps, model, batch in itertools.chain(small_models(), llamas() if find_spec("transformers") else ()):
        report = scree.audit.leaks(model, batch)
        print(f"{title}\n{report}\n".replace("\n", "\n    ").rstrip(" "))
        surprises += bool(report) == keeps
    print("as expected" if not surprises else f"{surprises} of them aren't as expected")
    return int(bool(surprises))


if __name__ == "__main__":
    sys.exit(main())
