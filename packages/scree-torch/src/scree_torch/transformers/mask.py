"""What attention is told of padding: the two-dimensional mask as it is, since rows need no larger one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch

from scree_core.errors import ShapeError, UnsupportedError

UNDERSTOOD = {
    "causal_mask_function",
    "bidirectional_mask_function",
    "sliding_window_overlay.<locals>.inner_mask",
    "sliding_window_bidirectional_overlay.<locals>.inner_mask",
    "and_masks.<locals>.and_mask",
    # Which rows there are, attention hears by itself.
    "packed_sequence_mask_function.<locals>.inner_mask",
    "remap_positions_for_packed_sequence.<locals>.inner_mask",
}
"""The functions of transformers that a mask may be made of, by their qualified names: any other is refused."""


def scree_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | torch.Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: torch.Tensor | None = None,
    **kwargs: Any,
) -> torch.Tensor | None:
    """Return the mask of padding that ``scree_attention`` gets: what transformers' ``AttentionMaskInterface`` calls.

    Parameters
    ----------
    batch_size, q_length, kv_length : int
        Sizes of the batch.
    q_offset, kv_offset : int
        Position of the first query, and of the first key that the cache still has.
    mask_function : callable, optional
        Which keys a query sees. Causal, bidirectional, and within a sliding window are understood: the model tells
        attention the same by other arguments.
    attention_mask : torch.Tensor of shape (batch_size, at least kv_length), optional
        True where tokens are real.
    **kwargs
        What transformers tells others.

    Returns
    -------
    torch.Tensor of shape (batch_size, kv_length), bool, or None
        As it was given, one of all ones too: whether rows were packed is seen later.

    Raises
    ------
    UnsupportedError
        The mask function is another (a prefix that sees itself, chunks, blocks of image tokens, keys that queries
        pick), the cache is a static one, with room for keys that aren't there yet, or the model asks for a mask and
        then attends by itself.

    Notes
    -----
    Reads no values, and so doesn't sync.
    """
    _check_attention_is_called(kwargs.get("config"))
    parts = set() if torch.compiler.is_compiling() else set(_parts(mask_function))
    strange = sorted(parts - UNDERSTOOD) or _strange_elsewhere(mask_function, kwargs)
    if strange:
        raise UnsupportedError(
            f"scree's attention knows causal, bidirectional and sliding masks, and this model adds one made by "
            f'{strange[0].split(".")[0]!r}; load it with attn_implementation="sdpa" or "eager"'
        )
    is_static = isinstance(q_offset, torch.Tensor) or kv_offset + kv_length > q_offset + q_length
    if is_static and (isinstance(q_offset, torch.Tensor) or _is_causal(mask_function, parts)):
        raise UnsupportedError(
            f"the cache has room for {kv_length} keys, more than there are yet; scree's attention takes caches that "
            'grow, cache_implementation="dynamic"'
        )
    if attention_mask is None:
        return None
    if attention_mask.shape[-1] < kv_offset + kv_length:
        raise ShapeError(
            f"attention_mask has {attention_mask.shape[-1]} columns, and there are {kv_offset + kv_length} keys; "
            "it must have one for each token that the cache holds or held, and one for each new one"
        )
    return attention_mask[:, kv_offset : kv_offset + kv_length]


def _check_attention_is_called(config: Any) -> None:
    """Refuse models that take a mask from here and then don't call ``scree_attention``: nothing would be causal."""
    if config is None or torch.compiler.is_compiling():
        return
    model = _with_attention_of_its_own(type(config))
    if model is not None:
        raise UnsupportedError(
            f"{model} has an attention of its own, and doesn't call scree's; load it with "
            'attn_implementation="eager", or "sdpa" where it has that'
        )


@cache
def _with_attention_of_its_own(config: type) -> str | None:
    """Return the name of transformers' model of a config, where its file never asks for an attention implementation."""
    from transformers import MODEL_MAPPING  # pyrefly: ignore[missing-import]

    model = MODEL_MAPPING.get(config, None)
    if not getattr(model, "__module__", "").startswith("transformers.") or model._can_set_attn_implementation():
        return None
    return None if hasattr(sys.modules[model.__module__], "ALL_ATTENTION_FUNCTIONS") else model.__name__


def _strange_elsewhere(mask_function: Any, more: dict[str, Any]) -> list[str]:
    """Return what a mask has that can't be told of its parts, or not in a trace, where closures can't be looked into.

    ``use_vmap`` says that the model added a function of its own. Even where it is one that is understood, say a
    window on top of a mask without one, attention may not hear of it.
    """
    found = ["a function of the model's own"] if more.get("use_vmap") else []
    if getattr(mask_function, "__qualname__", "").startswith("or_masks"):
        found.append("or_masks")
    if getattr(more.get("config"), "index_topk", None) is not None:
        found.append("an indexer of keys")
    if torch.compiler.is_compiling() and getattr(more.get("config"), "attention_chunk_size", None) is not None:
        found.append("chunked_overlay")
    return found


def _is_causal(mask_function: Any, parts: set[str]) -> bool:
    """Whether no key may come after the last query; those of an encoder may."""
    if parts:
        return "causal_mask_function" in parts
    return getattr(mask_function, "__qualname__", "") != "bidirectional_mask_function"


def _parts(mask_function: Any) -> Iterator[str]:
    """Go through the functions that a mask function is made of."""
    if mask_function is None:
        return
    if isinstance(mask_function, (tuple, list)):
        for part in mask_function:
            yield from _parts(part)
    elif callable(mask_function):
        yield getattr(mask_function, "__qualname__", type(mask_function).__qualname__)
        for cell in getattr(mask_function, "__closure__", None) or ():
            if callable(cell.cell_contents) or isinstance(cell.cell_contents, (tuple, list)):
                yield from _parts(cell.cell_contents)
