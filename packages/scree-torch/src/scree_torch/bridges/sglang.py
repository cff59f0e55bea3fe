"""SGLang's ``ForwardBatch``: a step that extends rows by several tokens each, or decodes one more of each."""

from __future__ import annotations

from typing import Any

import torch

from scree_core import Layout
from scree_core.errors import ArgumentError, ArgumentTypeError
from scree_core.registry import backend_of
from scree_torch.bridges.serving import ServingBatch, fields_of

KNOWN = "0.5.23"
FIELDS = ("forward_mode", "batch_size", "req_pool_indices", "seq_lens", "out_cache_loc")
EXTEND = ("extend_start_loc", "extend_num_tokens")
EXTENDS, DECODES = ("EXTEND", "MIXED", "SPLIT_PREFILL"), ("DECODE",)
"""Names of the forward modes that are a plain step: others verify drafts or have masks of their own."""


def from_sglang(batch: Any, *, req_to_token: torch.Tensor | None = None) -> ServingBatch:
    """Return what SGLang knows of the rows of a step.

    Parameters
    ----------
    batch : sglang.srt.model_executor.forward_batch_info.ForwardBatch
        Or anything with its fields; they are read by name. Extending (prefill, mixed) or decoding.
    req_to_token : integer tensor of shape (requests, tokens), optional
        The slot of each token of each request, ``model_runner.req_to_token_pool.req_to_token``, which the batch
        doesn't hold. With it the batch has a block table, of blocks of one token.

    Returns
    -------
    ServingBatch
        On the batch's own tensors; offsets of an extending step are one new tensor, ``8 * (batch + 1)`` bytes or half
        of it, and so are a decoding step's, of one token for each row.

    Raises
    ------
    ArgumentTypeError
        A field isn't there; the message names it, and the versions that are known.
    ArgumentError
        The forward mode isn't a plain step (idle, verifying drafts, diffusion), or the rows have an encoder's keys.

    Notes
    -----
    No sync. The block table takes a row of ``req_to_token`` for each request: a copy as long as the longest request
    may be.
    """
    mode, size, requests, lengths, slots = fields_of(batch, FIELDS, "ForwardBatch", "sglang", KNOWN)
    name = getattr(mode, "name", str(mode))
    if getattr(batch, "encoder_lens", None) is not None:
        raise ArgumentError("the batch has keys of an encoder (encoder_lens), which a ServingBatch has no room for")
    if name in EXTENDS:
        starts, total = fields_of(batch, EXTEND, "ForwardBatch", "sglang", KNOWN)
        end = torch.full((1,), total, dtype=starts.dtype, device=starts.device)
        queries = Layout(torch.cat([starts, end]), total=int(total))
    elif name in DECODES:
        ones = torch.arange(size + 1, dtype=torch.int32, device=lengths.device)
        queries = Layout(ones, total=size, max_length=1, min_length=1)
    else:
        raise ArgumentError(
            f"forward_mode is {name}, and scree knows plain steps: {', '.join((*EXTENDS, *DECODES))}; "
            "others have masks of their own"
        )
    table = None if req_to_token is None else req_to_token.index_select(0, requests)
    one = None if table is None else 1
    return ServingBatch(queries, lengths, slots=slots, block_table=table, block_size=one)


def to_sglang(batch: ServingBatch) -> dict[str, Any]:
    """Return the fields of ``ForwardBatch`` that tell the rows of an extending step, by their names.

    Parameters
    ----------
    batch : ServingBatch

    Returns
    -------
    dict
        ``batch_size``, ``seq_lens``, ``seq_lens_sum``, ``out_cache_loc``, ``positions``, ``extend_num_tokens``,
        ``extend_seq_lens``, ``extend_prefix_lens``, ``extend_start_loc``. What else a ``ForwardBatch`` has (its mode,
        its tokens, its pools) is the engine's.

    Raises
    ------
    ArgumentTypeError
        ``batch`` is no ServingBatch.
    ArgumentError
        It has no slots, which SGLang needs.

    Notes
    -----
    A tail is cut off. One sync for ``seq_lens_sum``, and one where the host doesn't know the offsets.
    """
    if not isinstance(batch, ServingBatch):
        raise ArgumentTypeError(f"batch must be a scree.bridges.ServingBatch, got {type(batch).__name__}")
    if batch.slots is None:
        raise ArgumentError("batch has no slots, which SGLang needs; give them to ServingBatch(slots=...)")
    total = int(backend_of(batch.queries.offsets).host_offsets(batch.queries)[-1])
    return {
        "batch_size": batch.batch_size,
        "seq_lens": batch.key_lengths,
        "seq_lens_sum": int(batch.key_lengths.sum()),
        "out_cache_loc": batch.slots[:total],
        "positions": batch.positions[:total],
        "extend_num_tokens": total,
        "extend_seq_lens": batch.queries.lengths,
        "extend_prefix_lens": batch.context_lengths.to(batch.queries.offsets.dtype),
        "extend_start_loc": batch.queries.offsets[:-1],
    }
