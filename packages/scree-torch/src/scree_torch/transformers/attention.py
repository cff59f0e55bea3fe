"""Attention for transformers' models, by ``scree.varlen_attention``."""

from __future__ import annotations

from typing import Any

import torch

from scree_core import Array, varlen_attention
from scree_core.errors import UnsupportedError
from scree_torch.rectangles import collect, spread
from scree_torch.transformers.rows import Side, Told, check_no_holes, rows_of

REFUSED = ("position_bias", "head_mask", "sinks", "indices", "block_indices", "cache", "block_table")
"""What models of transformers hand to attention that would change the result: biases, sinks of each query, the keys or
blocks of keys that a query picks, paged caches."""


def scree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    s_aux: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within rows, padded or packed: what transformers' ``AttentionInterface`` calls.

    Parameters
    ----------
    module : torch.nn.Module
        The layer, whose ``is_causal`` counts where the argument isn't given.
    query : torch.Tensor of shape (batch, heads, queries, head_dim)
        In float16, bfloat16, float32 or float64.
    key : torch.Tensor of shape (batch, kv_heads, keys, head_dim)
        Of a cache too, whose last keys belong to these queries.
    value : torch.Tensor of shape (batch, kv_heads, keys, head_dim_v)
        The values.
    attention_mask : torch.Tensor of shape (batch, keys), bool, or None
        What ``scree_mask`` returns.
    dropout : float, default 0
        Must be 0.
    scaling : float, optional
        Factor of the scores, by default ``1 / sqrt(head_dim)``.
    sliding_window : int, optional
        A query sees so many keys up to its own; without a causal mask so many to both sides, less one, or as many as
        the model's ``config.sliding_window`` says where that is no other window.
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.
    is_causal : bool, optional
        Whether queries see no later keys.
    s_aux : torch.Tensor of shape (heads,), optional
        Sinks.
    position_ids : torch.Tensor of shape (batch or 1, queries), optional
        Without a mask and cumulative lengths: a row begins wherever a position isn't the one before it plus 1.
    cu_seq_lens_q, cu_seq_lens_k : torch.Tensor of shape (rows + 1,), optional
        Of a packed batch ``(1, total)``, without a mask.
    max_length_q, max_length_k : int, optional
        The longest row; measured where they are missing.
    **kwargs
        Whatever else the model tells; what would change the result is refused.

    Returns
    -------
    out : torch.Tensor of shape (batch, queries, heads, head_dim_v)
        0 where a query is padding, under a causal mask or a window.
    weights : None

    Raises
    ------
    ShapeError, UnsupportedError
        Rows are told in two ways or don't fit, or something is asked for that there isn't: dropout, weights, biases of
        positions, a choice of keys for each query, a paged cache; or the layer doesn't say whether it is causal, or
        its config denies it.

    Notes
    -----
    Runs the overlay that takes the call, as ``scree.varlen_attention`` does: Triton kernels on a GPU. A mask and
    positions are read on the host once for all layers, one sync each; cumulative lengths with the longest row cost
    none. Queries, keys and values of padded batches are copied without their padding, packed ones aren't copied.
    """
    _refuse(dropout, kwargs)
    causal = _is_causal(module, is_causal)
    batch, _, queries, _ = query.shape
    told = Told(attention_mask, position_ids, cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k)
    window = _window(module, sliding_window, causal, key.shape[2])
    rows = rows_of(told, batch, queries, key.shape[2], query, ordered=causal or window is not None)
    if window is not None:
        check_no_holes(told)
    query, key, value = _in_one_dtype(query, key, value)
    out = varlen_attention(
        _gathered(query, rows.q),
        _gathered(key, rows.k),
        _gathered(value, rows.k),
        causal=causal,
        scale=scaling,
        window=window,
        softcap=softcap,
        sinks=None if s_aux is None else s_aux.to(query.dtype),
    ).values
    if rows.q.cells is not None:
        out = spread(out, rows.q.cells, batch * queries, 0, tail=False)
    return out.view(batch, queries, *out.shape[1:]), None


def _refuse(dropout: float, more: dict[str, Any]) -> None:
    """Refuse what there is no way to do, rather than leave it out."""
    if dropout:
        raise UnsupportedError(
            f"scree's attention has no dropout, and this layer asks for {dropout}: set the model's "
            "config.attention_dropout (attention_probs_dropout_prob in BERT) to 0"
        )
    if more.get("output_attentions"):
        raise UnsupportedError(
            'scree\'s attention keeps no weights to return: load the model with attn_implementation="eager" to see them'
        )
    for name in REFUSED:
        if more.get(name) is not None:
            raise UnsupportedError(
                f"scree's attention takes no {name}, which this model gives: load it with "
                'attn_implementation="sdpa" or "eager"'
            )


def _is_causal(module: torch.nn.Module, given: bool | None) -> bool:
    """Return whether a layer is causal: as it is told, else as it says."""
    if given is not None:
        return bool(given)
    own = getattr(module, "is_causal", None)
    if own is None:
        raise UnsupportedError(
            f"{type(module).__name__} doesn't say whether queries see later keys: it has no is_causal, and gives none; "
            'load the model with attn_implementation="sdpa" or "eager"'
        )
    if own and getattr(getattr(module, "config", None), "is_causal", None) is False:
        # Since 5.2 masks go by the config, and most models tell attention; before, nothing went by it.
        raise UnsupportedError(
            f"config.is_causal is False, and {type(module).__name__} says that it is causal; call the model with "
            "is_causal=False, or take a newer transformers"
        )
    return bool(own)


def _window(module: torch.nn.Module, sliding_window: int | None, causal: bool, keys: int) -> tuple[int, int] | None:
    if sliding_window is None or sliding_window >= keys:
        return None  # it reaches over all there are
    if causal:
        return (sliding_window - 1, -1)
    # Masks reach as far as the config says, and layers are made for FlashAttention: some say one more, some the same.
    of_mask = getattr(getattr(module, "config", None), "sliding_window", None)
    reach = sliding_window if of_mask == sliding_window else sliding_window - 1
    return (reach, reach)


def _in_one_dtype(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return queries, keys and values as autocast would have them."""
    kind = arrays[0].device.type
    if torch.is_autocast_enabled(kind):
        return tuple(x.to(torch.get_autocast_dtype(kind)) for x in arrays)
    return arrays


def _gathered(x: torch.Tensor, side: Side) -> Array[torch.Tensor]:
    """Return ``(batch, heads, length, head_dim)`` as rows ``(total, heads, head_dim)``."""
    flat = x.transpose(1, 2).flatten(0, 1)
    if side.cells is not None:
        flat = collect(flat, side.cells, tail=False)
    return Array.trusted(flat, side.layout)
