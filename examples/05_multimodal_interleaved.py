"""Train on documents that have pictures among their text, without padding: one Array, each element routed by its kind.

    python examples/05_multimodal_interleaved.py

A document is paragraphs of Python's own help, with pictures of unequal size drawn between them, each followed by a
caption that only the picture tells. Bytes of text and patches of pictures lie in one Array as they come in the
document; a second one on the same layout says which kind each element is. It routes: text and patches have embeddings,
norms, projections and feed-forward layers of their own, and share attention alone. That is causal over the document,
and within a picture every patch sees every other. Only text has labels.

The padded run does the same by hand with masks, from the same weights on the same batches, so that its losses differ
by rounding alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pydoc_data.topics import topics
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import scree

STEPS, BATCH, CONTEXT = 48, 8, 1024
WIDTH, HEADS, LAYERS, PATCH = 64, 4, 2, 4
TEXT, IMAGE, CAPTION = range(3)
IGNORED = -100  # a label that doesn't count

PARAGRAPHS = [paragraph.encode()[:80] for text in topics.values() for paragraph in text.split("\n\n") if paragraph]
PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "rows": lambda y, x: np.sin(y),
    "columns": lambda y, x: np.sin(x),
    "checks": lambda y, x: np.sin(y) * np.sin(x),
    "rings": lambda y, x: np.sin(np.hypot(y, x)),
}
ANGLES = torch.arange(CONTEXT)[:, None] / 10_000 ** (torch.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
COS, SIN = ANGLES.cos(), ANGLES.sin()


# ------------------------------------------------------------------ documents


class Batch(NamedTuple):
    """Documents end to end, the kinds of their elements on the same layout, and the pictures' patches."""

    tokens: scree.Array[torch.Tensor]  # (total,): bytes; 0 where a patch lies
    kinds: scree.Array[torch.Tensor]  # (total,), int8
    patches: scree.Array[torch.Tensor]  # (patches, PATCH * PATCH): a row for each picture


def draw_picture(rng: np.random.Generator) -> tuple[np.ndarray, bytes]:
    """Return the patches of a picture, from one to 25, and its caption."""
    name = str(rng.choice(list(PATTERNS)))
    down, across = rng.integers(1, 6, size=2)
    y, x = np.mgrid[: down * PATCH, : across * PATCH] * (2 * np.pi / PATCH)
    pixels = PATTERNS[name](y, x) + rng.normal(0, 0.3, y.shape)
    patches = pixels.reshape(down, PATCH, across, PATCH).swapaxes(1, 2).reshape(-1, PATCH * PATCH)
    return patches.astype(np.float32), f"[{name}]".encode()


def draw_batch(rng: np.random.Generator) -> Batch:
    """Put documents together: one to four paragraphs, and behind each up to two pictures with their captions."""
    documents, pictures = [], []
    for _ in range(BATCH):
        pieces: list[tuple[int, bytes]] = []
        for i in rng.integers(len(PARAGRAPHS), size=rng.integers(1, 5)):
            pieces.append((TEXT, PARAGRAPHS[i]))
            for _ in range(rng.integers(3)):
                patches, caption = draw_picture(rng)
                pictures.append(patches)
                pieces += [(IMAGE, bytes(len(patches))), (CAPTION, caption)]
        documents.append(pieces)
    return make_batch(documents, pictures)


def make_batch(documents: Sequence[Sequence[tuple[int, bytes]]], pictures: Sequence[np.ndarray]) -> Batch:
    """Pack documents that are lists of pieces; a picture is a piece with a byte for each of its patches."""
    elements = [
        torch.from_numpy(np.frombuffer(b"".join(p for _, p in d), np.uint8).astype(np.int64)) for d in documents
    ]
    tokens = scree.pack(elements)
    kinds = [kind for document in documents for kind, piece in document for _ in piece]
    patches = np.concatenate([np.zeros((0, PATCH * PATCH), np.float32), *pictures])  # there may be no picture
    return Batch(
        tokens,
        tokens.with_values(torch.tensor(kinds, dtype=torch.int8)),
        scree.from_lengths(torch.from_numpy(patches), [len(p) for p in pictures]),
    )


def labels_of(batch: Batch, *kinds: int) -> scree.Array[torch.Tensor]:
    """Return the bytes of these kinds as labels; no other element has one, a patch never."""
    counts = torch.isin(batch.kinds.values, torch.tensor(kinds, dtype=torch.int8))
    return batch.tokens.with_values(batch.tokens.values.where(counts, IGNORED))


# ------------------------------------------------------------------ two ways to lay a batch out


class Packed:
    """Documents end to end."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        is_image = batch.kinds.values == IMAGE
        image = is_image.nonzero()[:, 0]
        self.places = [(~is_image).nonzero()[:, 0], image]  # of each expert's elements
        self.back = torch.cat(self.places).argsort()

        # Pictures as rows of their own, all of their patches but the last, and all but the first.
        pictures = batch.patches
        last = scree.repeat_rows(pictures.lengths - 1, like=pictures).values
        self.sooner = scree.from_lengths(image[pictures.positions < last], pictures.lengths - 1)
        self.later = self.sooner.with_values(image[pictures.positions > 0])

    def embed(self, text: nn.Embedding, image: nn.Linear) -> torch.Tensor:
        """Return the elements' vectors ``(total, width)``."""
        return torch.cat([text(self.batch.tokens.values[self.places[0]]), image(self.batch.patches.values)])[self.back]

    def route(self, experts: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        """Send each element through the expert for its kind, and through no other."""
        parts = [expert(x[places]) for expert, places in zip(experts, self.places, strict=True)]
        return torch.cat(parts)[self.back]

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend to what came before in the document, and in a picture to what comes: ``(total, heads, head_dim)``."""
        q, k, v = (self.batch.tokens.with_values(x) for x in (q, k, v))
        q, k = scree.varlen_rope(q, COS, SIN), scree.varlen_rope(k, COS, SIN)
        out, lse = scree.varlen_attention(q, k, v, causal=True, return_lse=True)

        # The patches still to come, none of which was seen above: in these rows the key at a query's own position is
        # the patch behind it. Two results over different keys are one, once each has the weight of its keys in all.
        sooner, later = self.sooner.values, self.later.values
        q, k, v = (self.sooner.with_values(x) for x in (q.values[sooner], k.values[later], v.values[later]))
        more, more_lse = scree.varlen_attention(q, k, v, window=(0, -1), return_lse=True)
        weight = torch.sigmoid(more_lse.values - lse.values[sooner])[..., None]
        return out.values.index_copy(0, sooner, out.values[sooner].lerp(more.values, weight))

    def loss(self, logits: torch.Tensor, *kinds: int) -> torch.Tensor:
        """Return the mean cross-entropy of the labels of some kinds, each predicted by the element before it."""
        return scree.varlen_cross_entropy(self.batch.tokens.with_values(logits), labels_of(self.batch, *kinds))


class Padded:
    """Documents side by side, as long as the longest, and a mask wherever documents or kinds could mix."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.tokens, self.real = scree.to_padded(batch.tokens)
        kinds, _ = scree.to_padded(batch.kinds, fill_value=TEXT)
        self.is_image = (kinds == IMAGE)[..., None]  # (batch, length, 1)

        picture = torch.full_like(self.tokens, -1)
        picture[self.is_image[..., 0]] = batch.patches.segment_ids.long()
        within = (picture[:, :, None] == picture[:, None, :]) & self.is_image  # (batch, length, length)
        causal = torch.ones(within.shape[1:], dtype=torch.bool).tril()
        self.visible = (causal | within)[:, None]

    def embed(self, text: nn.Embedding, image: nn.Linear) -> torch.Tensor:
        """The same for ``(batch, length, width)``."""
        return text(self.tokens).masked_scatter(self.is_image, image(self.batch.patches.values))

    def route(self, experts: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        """Send every slot through both experts, and keep what is asked for."""
        return torch.where(self.is_image, experts[1](x), experts[0](x))

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The same for ``(batch, length, heads, head_dim)``."""
        heads_first = (x.transpose(1, 2) for x in (self._rotate(q), self._rotate(k), v))
        return functional.scaled_dot_product_attention(*heads_first, attn_mask=self.visible).transpose(1, 2)

    def _rotate(self, x: torch.Tensor) -> torch.Tensor:
        cos, sin = (table[: x.shape[1], None].to(x.dtype) for table in (COS, SIN))
        x1, x2 = x.chunk(2, dim=-1)
        return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)

    def loss(self, logits: torch.Tensor, *kinds: int) -> torch.Tensor:
        """The same."""
        labels, _ = scree.to_padded(labels_of(self.batch, *kinds), fill_value=IGNORED)
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


# ------------------------------------------------------------------ the model


def one_each(make: Callable[[], nn.Module]) -> nn.ModuleList:
    """Return one module for text and one for patches."""
    return nn.ModuleList(make() for _ in range(2))


class Model(nn.Module):
    """A transformer with experts for text and for patches, which neither knows nor cares how its batch is laid out."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.image = nn.Embedding(256, WIDTH), nn.Linear(PATCH * PATCH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 256, bias=False)

    def forward(self, layout: Packed | Padded) -> torch.Tensor:
        """Return the logits of the next byte behind each element."""
        x = layout.embed(self.text, self.image)
        for block in self.blocks:
            x = block(x, layout)
        return self.head(self.norm(x))


class Block(nn.Module):
    """Attention of all elements, between layers of each kind's own."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = one_each(lambda: nn.Sequential(nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH, bias=False)))
        self.out = one_each(lambda: nn.Linear(WIDTH, WIDTH, bias=False))
        self.feed = one_each(
            lambda: nn.Sequential(
                nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
            )
        )

    def forward(self, x: torch.Tensor, layout: Packed | Padded) -> torch.Tensor:
        """Add what attention and the feed-forward layers make of x."""
        q, k, v = (y.unflatten(-1, (HEADS, -1)) for y in layout.route(self.qkv, x).chunk(3, dim=-1))
        x = x + layout.route(self.out, layout.attend(q, k, v).flatten(-2))
        return x + layout.route(self.feed, x)


# ------------------------------------------------------------------ what there is to see


def show_who_sees_whom() -> None:
    """Print which keys each element of two small documents sees, and check it."""
    documents = [[(TEXT, b"ab"), (IMAGE, bytes(4)), (CAPTION, b"c"), (IMAGE, bytes(2))], [(TEXT, b"d"), (IMAGE, b"\0")]]
    batch = make_batch(documents, [np.zeros((size, PATCH * PATCH), np.float32) for size in (4, 2, 1)])
    total = batch.tokens.total_length
    same = torch.zeros(total, 1, WIDTH // HEADS)  # every key that is seen weighs the same
    votes = torch.eye(total)[:, None]  # key j votes for column j
    seen = Packed(batch).attend(same, same, votes)[:, 0] > 0

    document, picture = batch.tokens.segment_ids, torch.full((total,), -1)
    picture[batch.kinds.values == IMAGE] = batch.patches.segment_ids.long()
    within = (picture[:, None] == picture) & (picture >= 0)
    expected = (document[:, None] == document) & (torch.ones(total, total).tril().bool() | within)
    assert torch.equal(seen, expected), f"elements that see others than they should: {(seen != expected).nonzero()}"

    names = "".join(map(chr, batch.tokens.values.where(batch.kinds.values != IMAGE, ord("#"))))
    print("Two documents, with pictures of four patches, of two and of one; who (down) sees whom (across):\n")
    for name, row in zip(" " + names, [names, *("".join(".x"[s] for s in line) for line in seen.int())], strict=True):
        print(f"    {name}  {' '.join(row)}")


def check(batch: Batch) -> None:
    """Print how far logits and gradients are apart in float64, after checking that it is rounding and nothing else."""
    torch.manual_seed(0)
    batch = batch._replace(patches=batch.patches.astype(torch.float64))
    model, packed, padded = Model().double(), Packed(batch), Padded(batch)
    logits = model(packed), model(padded)
    losses = packed.loss(logits[0], CAPTION), padded.loss(logits[1], CAPTION)
    ours, theirs = (torch.autograd.grad(loss, [*model.parameters()]) for loss in losses)
    apart = [relative(logits[0], logits[1][padded.real]), max(map(relative, ours, theirs))]
    assert max(apart) < 1e-12, f"packed and padded differ by {max(apart):.0e} of the largest number"
    print(f"\nIn float64 logits differ from the padded ones by {apart[0]:.0e}, and gradients by {apart[1]:.0e}.")

    norms = {name: g.norm().item() for (name, _), g in zip(model.named_parameters(), ours, strict=True)}
    text, image = norms["text.weight"], norms["image.weight"]
    assert min(text, image) > 0, "the loss must reach both embeddings"
    print(f"The captions' loss moves the embeddings of text (gradient {text:.2f}) and of patches ({image:.2f}).")


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    """Return the largest difference over the largest number."""
    return ((got - want).abs().max() / want.abs().max()).item()


def train(layout: type[Packed | Padded]) -> tuple[Model, list[float], int, float]:
    """Return the model, its losses, how many slots the batches had, and the seconds."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng, losses, slots, seconds = np.random.default_rng(0), [], 0, 0.0
    for _ in range(STEPS):
        batch = draw_batch(rng)
        start = time.perf_counter()
        laid_out = layout(batch)
        logits = model(laid_out)
        loss = laid_out.loss(logits, TEXT, CAPTION)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds += time.perf_counter() - start
        slots += logits[..., 0].numel()
    return model, losses, slots, seconds


def loss_by_document(model: Model, batch: Batch, kind: int) -> torch.Tensor:
    """Return the mean loss of each document's bytes of a kind; NaN where it has none."""
    logits = batch.tokens.with_values(model(Packed(batch)))
    sums = scree.varlen_cross_entropy(logits, labels_of(batch, kind), reduction="row_sum")
    return sums / scree.varlen_sum((batch.kinds == kind) & (batch.kinds.positions > 0))  # none predicts the first


@torch.no_grad()
def show_documents(model: Model, batch: Batch) -> None:
    """Print what each document holds of each kind, and how well its text and its captions are predicted."""
    blank = batch._replace(patches=batch.patches * 0.0)
    counts = [scree.varlen_sum(batch.kinds == kind) for kind in (TEXT, IMAGE, CAPTION)]
    losses = [loss_by_document(model, *which) for which in ((batch, TEXT), (batch, CAPTION), (blank, CAPTION))]
    print(f"\n{'':8}{'elements':>30}{'loss':>18}{'with blank':>14}")
    print(f"document{'text':>10}{'image':>10}{'caption':>10}{'text':>10}{'caption':>8}{'images':>14}")
    for i, (n, loss) in enumerate(zip(torch.stack(counts, 1).tolist(), torch.stack(losses, 1).tolist(), strict=True)):
        text, caption, blind = ("-" if math.isnan(x) else f"{x:.2f}" for x in loss)
        print(f"{i:8}{n[TEXT]:10}{n[IMAGE]:10}{n[CAPTION]:10}{text:>10}{caption:>8}{blind:>14}")


if __name__ == "__main__":
    torch.set_num_threads(1)  # of so small a model several spend their time waiting for each other
    fresh = draw_batch(np.random.default_rng(1))
    show_who_sees_whom()
    check(fresh)

    (model, packed, few, fast), (_, padded, many, slow) = (train(layout) for layout in (Packed, Padded))
    apart = max(abs(a - b) for a, b in zip(packed, padded, strict=True))
    assert packed[-1] < packed[0], "it must have learned something"
    print(f"\n{STEPS} steps: loss {packed[0]:.3f} -> {packed[-1]:.3f}, the padded ones at most {apart:.0e} away.\n")
    print(f"{'':26}{'packed':>10}{'padded':>10}{'ratio':>8}")
    print(f"{'slots':26}{few:10,}{many:10,}{many / few:8.2f}")
    print(f"{'slots through an expert':26}{few:10,}{2 * many:10,}{2 * many / few:8.2f}")
    print(f"{'seconds':26}{fast:10.1f}{slow:10.1f}{slow / fast:8.2f}")
    show_documents(model, fresh)
