"""Cross-entropy of each element's logits and its label: a kernel each way, which reads the logits once.

Forward keeps two numbers of each element, from which backward computes the softmax again, in registers: neither needs
memory of the vocabulary's size beside the logits and their gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from scree_torch.varlen_cross_entropy import gradient
from scree_triton.alike import alike
from scree_triton.columns import columns
from scree_triton.launch import Variant, on_device_of
from scree_triton.power_of_2 import power_of_2


class Tile(NamedTuple):
    """What a program holds at a time."""

    size: int
    """Logits: of one element, or of a few where the vocabulary is smaller."""
    warps: int
    stages: int
    """Tiles on their way at once; forward goes through all of an element, backward has a program for each."""


# Of 14 and 22 tried on an H100; what is faster at one vocabulary by a hundredth is slower at another by a tenth.
FORWARD = Tile(2048, 4, 3)
BACKWARD = Tile(2048, 4, 1)
MOST_ROWS = 64
"""Elements that share a program at most."""


def varlen_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return minus the log-probability that each element's logits give to its label.

    Parameters
    ----------
    logits : torch.Tensor of shape (total, vocab)
        In float16, bfloat16, float32 or float64; at least one class.
    labels : torch.Tensor of int of shape (total,)
        The class that each element is compared with; below 0 for none.

    Returns
    -------
    torch.Tensor of shape (total,), float32, or float64 for float64 logits
        0 where there is no label, whatever the logits; NaN where it is ``vocab`` or more, or the largest logit is
        infinite. Computed in this dtype.

    Notes
    -----
    One launch forward and one backward, each of which reads the logits of elements that have a label once. For
    backward it keeps the logits as they are given, and two numbers of each element. Logits whose classes don't lie
    side by side are copied, in both. No sync. Few elements leave a GPU idle forwards: none is shared by several
    programs.
    """
    if torch.is_grad_enabled() and logits.requires_grad:
        return _CrossEntropy.apply(logits, labels)
    return _forward(logits, labels, None)


class _CrossEntropy(torch.autograd.Function):
    # Forward takes the context itself: setup_context costs 10 us in every call.
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kept = torch.empty((2, logits.shape[0]), dtype=_dtype_of(logits), device=logits.device)
        losses = _forward(logits, labels, kept)
        ctx.save_for_backward(logits, labels, kept)
        ctx.set_materialize_grads(False)
        return losses

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> Any:
        (d_losses,) = cotangents
        if d_losses is None:
            return None, None
        logits, labels, kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # someone wants gradients of this gradient
            return gradient(logits, labels, d_losses), None
        return _backward(logits, labels, kept, d_losses), None


@triton.jit(do_not_specialize=["rows"])
def _forward_kernel(
    logits_ptr,
    labels_ptr,
    losses_ptr,
    kept_ptr,
    rows: tl.int64,  # pyrefly: ignore[not-a-type]
    STRIDE: tl.constexpr,
    VOCAB: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    dtype: tl.constexpr = losses_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    label = tl.load(labels_ptr + row, mask=row < rows, other=-1).to(tl.int64)
    counts = label >= 0  # (BLOCK_ROWS,)
    logits_ptr += row * STRIDE
    own = tl.load(logits_ptr + label, mask=counts & (label < VOCAB), other=float("nan")).to(dtype)
    top = tl.full((BLOCK_ROWS,), float("-inf"), dtype)
    sums = tl.zeros((BLOCK_ROWS, BLOCK), dtype)
    # Nothing is read where nothing counts.
    stop = tl.where(tl.max(label, 0) >= 0, VOCAB, 0)  # pyrefly: ignore[unsupported-operation]
    for first in tl.range(0, stop, BLOCK, num_stages=STAGES):
        column = first + tl.arange(0, BLOCK)
        inside = counts[:, None] & (column < VOCAB)[None, :]  # (BLOCK_ROWS, BLOCK)
        x = tl.load(logits_ptr[:, None] + column[None, :], mask=inside, other=float("-inf")).to(dtype)
        higher = tl.maximum(top, tl.max(x, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)  # inf - inf gives the NaN that inf shall give
        sums = sums * tl.exp(top - shift)[:, None] + tl.exp(x - shift[:, None])
        top = higher
    total = tl.sum(sums, 1)
    losses = tl.where(counts, tl.log(total) - (own - top), 0.0)
    tl.store(losses_ptr + row, losses, mask=row < rows)
    if kept_ptr is not None:
        tl.store(kept_ptr + row, top, mask=row < rows)
        tl.store(kept_ptr + rows + row, total, mask=row < rows)


@triton.jit(do_not_specialize=["rows"])
def _backward_kernel(
    logits_ptr,
    labels_ptr,
    kept_ptr,
    d_losses_ptr,
    d_logits_ptr,
    rows: tl.int64,  # pyrefly: ignore[not-a-type]
    STRIDE: tl.constexpr,
    D_STRIDE: tl.constexpr,
    VOCAB: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype: tl.constexpr = kept_ptr.dtype.element_ty
    parts: tl.constexpr = (VOCAB + BLOCK - 1) // BLOCK
    row = (tl.program_id(0) // parts).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    label = tl.load(labels_ptr + row, mask=row < rows, other=-1).to(tl.int64)
    counts = label >= 0  # (BLOCK_ROWS,)
    # Without a label nothing is read, and what stands for it gives 0.
    top = tl.load(kept_ptr + row, mask=counts, other=0.0)
    total = tl.load(kept_ptr + rows + row, mask=counts, other=1.0)
    d = tl.load(d_losses_ptr + row * D_STRIDE, mask=counts, other=0.0).to(dtype)
    d = tl.where(label < VOCAB, d, float("nan"))[:, None]
    share = (1.0 / total if dtype == tl.float64 else tl.math.div_rn(1.0, total))[:, None]
    own = label.to(tl.int32)[:, None]  # of what doesn't fit, the gradient is 0 or NaN
    column = tl.program_id(0) % parts * BLOCK + tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (column < VOCAB)[None, :]  # (BLOCK_ROWS, BLOCK)
    at = logits_ptr + (row * STRIDE)[:, None] + column[None, :]
    x = tl.load(at, mask=inside & counts[:, None], other=0.0).to(dtype)
    softmax = tl.exp(x - top[:, None]) * share
    d_x = tl.where(column[None, :] == own, softmax - 1.0, softmax) * d
    to = d_logits_ptr + (row * VOCAB)[:, None] + column[None, :]
    tl.store(to, d_x.to(d_logits_ptr.dtype.element_ty), mask=inside)


def _dtype_of(logits: torch.Tensor) -> torch.dtype:
    """Return what losses are computed in."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _forward(logits: torch.Tensor, labels: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Return the losses; write tops and sums of exponentials, if they are to be kept."""
    losses = torch.empty(logits.shape[0], dtype=_dtype_of(logits), device=logits.device)
    _launch(_forward_kernel, FORWARD, {}, logits, labels.contiguous(), losses, kept)
    return losses


def _backward(logits: torch.Tensor, labels: torch.Tensor, kept: torch.Tensor, d_losses: torch.Tensor) -> torch.Tensor:
    d_logits = torch.empty_like(logits, memory_format=torch.contiguous_format)
    if d_losses.stride(0) > 1:  # a variant of the kernel for one number, repeated, and one for all others
        d_losses = d_losses.contiguous()
    _launch(
        _backward_kernel,
        BACKWARD,
        {"D_STRIDE": d_losses.stride(0)},
        logits,
        labels.contiguous(),
        kept,
        d_losses,
        d_logits,
    )
    return d_logits


def _launch(kernel: Any, tile: Tile, more: dict[str, int], logits: torch.Tensor, *others: torch.Tensor | None) -> None:
    total, vocab = logits.shape
    if not total:
        return
    arrays = columns(logits), *others
    stride = vocab if total == 1 else arrays[0].stride(0)  # PyTorch looks at no others
    key = kernel, tile, stride, vocab, *more.values(), logits.device, *map(alike, arrays)
    found = _variants.get(key)
    if found is None:
        if logits.dtype == torch.float64:  # too large for several in the memory that a program shares
            tile = tile._replace(stages=1)
        found = _variants[key] = _variant(kernel, tile, {"STRIDE": stride, "VOCAB": vocab, **more})
    variant, rows, parts = found
    with on_device_of(logits):
        variant(-(-total // rows) * parts, *arrays, total)


_variants: dict[object, tuple[Variant, int, int]] = {}


def _variant(kernel: Any, tile: Tile, constants: dict[str, int]) -> tuple[Variant, int, int]:
    """Return the kernel to launch, how many elements share a program, and how many programs share an element."""
    vocab = constants["VOCAB"]
    block = min(power_of_2(vocab, 1), tile.size)
    rows = min(tile.size // block, MOST_ROWS)
    constants |= {"BLOCK_ROWS": rows, "BLOCK": block}
    if kernel is _forward_kernel:
        return Variant(kernel, constants | {"STAGES": tile.stages}, tile.warps, tile.stages), rows, 1
    return Variant(kernel, constants, tile.warps, tile.stages), rows, -(-vocab // block)
