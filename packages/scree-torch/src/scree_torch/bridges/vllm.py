"""vLLM's ``CommonAttentionMetadata``, which every attention backend of its version 1 is given for a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scree_core import Layout
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.registry import backend_of
from scree_torch.bridges.serving import ServingBatch, fields_of

KNOWN = "0.33"
FIELDS = (
    *("query_start_loc", "query_start_loc_cpu", "seq_lens", "num_reqs", "num_actual_tokens"),
    *("max_query_len", "max_seq_len", "block_table_tensor", "slot_mapping", "causal"),
)


def from_vllm(metadata: Any, *, block_size: int | None = None) -> ServingBatch:
    """Return what vLLM tells its attention backends of a step.

    Parameters
    ----------
    metadata : vllm.v1.attention.backend.CommonAttentionMetadata
        Or anything with its fields; they are read by name.
    block_size : int, optional
        Tokens of a block of the cache, which the metadata doesn't hold: ``kv_cache_spec.block_size``. Without it
        slots can't be computed from the block table.

    Returns
    -------
    ServingBatch
        On the metadata's own tensors, without the rows that it has beyond ``num_reqs``, as views. Where
        ``num_actual_tokens`` is padded beyond the last row, with a tail.

    Raises
    ------
    ArgumentTypeError
        A field isn't there; the message names it, and the versions that are known.
    ShapeError
        ``query_start_loc_cpu`` breaks an invariant of ``scree.Layout``.
    ArgumentError
        ``causal`` differs from row to row.

    Notes
    -----
    Nothing is copied, and no sync: ``query_start_loc_cpu`` is on the host. Keys of an encoder
    (``encoder_seq_lens``) aren't looked at.
    """
    starts, starts_cpu, lengths, count, total, longest, most_keys, table, slots, causal = fields_of(
        metadata, FIELDS, "CommonAttentionMetadata", "vllm", KNOWN
    )
    if isinstance(causal, torch.Tensor):
        raise ArgumentError("causal is a tensor, one for each row, and a ServingBatch has one for all; split the batch")
    if starts.shape[0] < count + 1 or lengths.shape[0] < count:
        raise ShapeError(
            f"num_reqs is {count}, but query_start_loc has {starts.shape[0]} and seq_lens {lengths.shape[0]}"
        )
    host = np.asarray(starts_cpu[: count + 1])
    tail = bool(host[-1] < total)
    queries = Layout(starts[: count + 1], total=total, max_length=longest, host=host, tail=tail)
    return ServingBatch(
        queries=queries,
        key_lengths=lengths[:count],
        slots=slots[:total],
        block_table=table[:count],
        block_size=block_size,
        causal=bool(causal),
        max_key_length=int(most_keys),
    )


def to_vllm(batch: ServingBatch) -> dict[str, Any]:
    """Return the fields that a ``CommonAttentionMetadata`` has at least: ``CommonAttentionMetadata(**to_vllm(batch))``.

    Parameters
    ----------
    batch : ServingBatch
        With ``block_table`` and ``slots``.

    Returns
    -------
    dict
        The batch's own tensors, and ``query_start_loc_cpu``.

    Raises
    ------
    ArgumentTypeError
        ``batch`` is no ServingBatch.
    ArgumentError
        It has no block table or no slots, which vLLM needs.

    Notes
    -----
    Where the host doesn't know offsets or the longest rows, they are read from the device: a sync for each.
    """
    if not isinstance(batch, ServingBatch):
        raise ArgumentTypeError(f"batch must be a scree.bridges.ServingBatch, got {type(batch).__name__}")
    if batch.block_table is None or batch.slots is None:
        missing = "block_table" if batch.block_table is None else "slots"
        raise ArgumentError(f"batch has no {missing}, which vLLM needs; give it to ServingBatch({missing}=...)")
    queries = batch.queries
    host = backend_of(queries.offsets).host_offsets(queries)
    lengths = np.diff(host)
    longest = int(lengths.max(initial=0)) if queries.max_length is None else queries.max_length
    most = batch.max_key_length
    if most is None:
        most = int(batch.key_lengths.max()) if batch.batch_size else 0
    return {
        "query_start_loc": queries.offsets,
        "query_start_loc_cpu": torch.from_numpy(np.array(host)),
        "seq_lens": batch.key_lengths,
        "num_reqs": batch.batch_size,
        "num_actual_tokens": int(host[-1]) if queries.total is None else queries.total,
        "max_query_len": longest,
        "max_seq_len": most,
        "block_table_tensor": batch.block_table,
        "slot_mapping": batch.slots,
        "causal": batch.causal,
    }
