"""The contract's version, and the names of its ops."""

from __future__ import annotations

CONTRACT = 1

OPS = (
    "pack",
    "take_rows",
    "to_padded",
    "from_padded",
    "segment_ids",
    "positions",
    "repeat_rows",
    "varlen_attention",
    "varlen_layernorm",
    "varlen_rmsnorm",
    "varlen_softmax",
    "varlen_rope",
    "varlen_sum",
    "varlen_mean",
    "varlen_max",
    "varlen_min",
    "varlen_logsumexp",
    "varlen_cumsum",
    "varlen_cross_entropy",
)
"""Every op of the contract; each is a method of ``Backend`` with a working default."""
