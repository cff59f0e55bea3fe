"""What variable-length attention functions of other libraries are told about rows: offsets, and the longest row."""

from __future__ import annotations

from typing import Any

from scree_core.arguments import check_array
from scree_core.array import Array
from scree_core.bridges.cu_seqlens import longest_row, narrow_offsets
from scree_core.errors import ArgumentError, ShapeError

_SAME = ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k")
FLAVOURS = {
    "fa2": _SAME,
    "fa3": _SAME,
    "fa4": _SAME,
    "torch": ("cu_seq_q", "cu_seq_k", "max_q", "max_k"),
    "vllm": _SAME,
    "flashinfer": ("qo_indptr", "kv_indptr", None, None),
    "te": ("cu_seqlens_q", "cu_seqlens_kv", "max_seqlen_q", "max_seqlen_kv"),
}
"""Of each library's function, the names of the offsets of queries and keys, and of the longest rows."""
FIXED = {"te": {"qkv_format": "thd"}}
"""What else tells a function that rows are packed."""


def flash_attn_kwargs(q: Array[Any], k: Array[Any] | None = None, flavour: str = "fa2") -> dict[str, Any]:
    """Return the keyword arguments by which a variable-length attention function is told the rows of q and k.

    Parameters
    ----------
    q : Array with values (total_q, heads, head_dim)
        The queries; of other shapes as well, since only its rows are looked at.
    k : Array with values (total_k, kv_heads, head_dim), optional
        The keys and values, of as many rows; by default they lie as the queries do.
    flavour : str, default "fa2"
        The function:

        - ``"fa2"``, ``"fa3"``, ``"fa4"``: ``flash_attn_varlen_func`` of FlashAttention-2, -3 and -4
        - ``"torch"``: ``torch.nn.attention.varlen.varlen_attn``
        - ``"vllm"``: ``flash_attn_varlen_func`` of vLLM's FlashAttention, which wants them by name
        - ``"flashinfer"``: ``plan`` of ``BatchPrefillWithRaggedKVCacheWrapper``, which asks for no longest row
        - ``"te"``: the call of TransformerEngine's ``DotProductAttention``, with its ``qkv_format``; its
          ``attn_mask_type`` must be one that begins with ``padding``, and causal attention as scree has it is
          ``padding_causal_bottom_right``

    Returns
    -------
    dict
        Offsets as they are (``is``), the longest rows as Python integers.

    Raises
    ------
    ArgumentError
        The flavour isn't one of these.
    ArgumentTypeError
        q or k isn't a ``scree.Array``.
    ShapeError
        Batch sizes differ; ``ragged_dim`` isn't 0; or there are more elements than 32 bits count, which is what these
        functions' offsets have.

    Notes
    -----
    int32 offsets aren't copied; int64 ones are, to int32, once for a layout: ``4 * (batch + 1)`` bytes. Where the host
    knows no bound of the row lengths they are read from the device, once for a layout: a sync, which ``max_length`` of
    ``scree.from_cu_seqlens`` avoids. A bound does for the longest row; the functions need no exact one.

    Causal attention of unlike lengths is aligned to the bottom right, as in scree, for FlashAttention since 2.1; only
    TransformerEngine's ``padding_causal`` is aligned to the top left. Elements behind the last offset (a tail) are left
    as they are in the output: of scree they are 0.

    Examples
    --------
    >>> import numpy as np, scree
    >>> q = scree.from_lengths(np.zeros((5, 2, 8), np.float16), [3, 2])
    >>> scree.bridges.flash_attn_kwargs(q, flavour="torch")
    {'cu_seq_q': array([0, 3, 5], dtype=int32), 'cu_seq_k': array([0, 3, 5], dtype=int32), 'max_q': 3, 'max_k': 3}
    """
    if flavour not in FLAVOURS:
        raise ArgumentError(f"flavour={flavour!r} isn't known; it is one of {', '.join(FLAVOURS)}")
    k = q if k is None else k
    check_array(q, "q")
    check_array(k, "k")
    for arr, name in ((q, "q"), (k, "k")):
        if arr.ragged_dim:
            raise ShapeError(
                f"{name} has its rows along axis {arr.ragged_dim}, these functions want them along the first: "
                f"make it with ragged_dim=0"
            )
    if q.layout.batch_size != k.layout.batch_size:
        raise ShapeError(
            f"q has {q.layout.batch_size} rows and k {k.layout.batch_size}: each row of queries needs its row of keys"
        )
    names = FLAVOURS[flavour]
    q_offsets = narrow_offsets(q, "q")
    k_offsets = q_offsets if k.layout.offsets is q.layout.offsets else narrow_offsets(k, "k")
    found = {names[0]: q_offsets, names[1]: k_offsets}
    if names[2] is not None:
        found[names[2]] = longest_row(q)
        found[names[3]] = found[names[2]] if k.layout is q.layout else longest_row(k)
    return found | FIXED.get(flavour, {})
