"""What differs between versions of transformers, so that nothing else has to ask which one there is.

Here is only what scree must do in another way. Models that a version has of another kind, such as BERT before 5.0, are
named in ``docs/guides/transformers.md``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from scree_core.errors import BackendNotInstalledError
from scree_torch.transformers.mask import scree_mask

OLDEST = (4, 54)
"""The first version whose models all of ``tests/hf`` can be run on: 4.53 has no ``set_attn_implementation``."""


def check_version(found: str) -> None:
    """Refuse a transformers that is too old.

    Parameters
    ----------
    found : str
        Its ``__version__``, such as ``"5.24.0.dev0"``.

    Raises
    ------
    BackendNotInstalledError
        It is older than ``OLDEST``.
    """
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise BackendNotInstalledError(
            f"scree.hf.register needs transformers {oldest} or newer, and {found} is installed\n"
            f'    pip install "transformers>={oldest}"'
        )


def mask_for(theirs: Callable[..., Any]) -> Callable[..., torch.Tensor | None]:
    """Return ``scree_mask`` as this transformers calls its mask functions.

    Parameters
    ----------
    theirs : callable
        A mask function of transformers, whose arguments are looked at.

    Notes
    -----
    Since 5.4 they get ``q_length`` and ``q_offset``; before, the positions of the queries as a tensor.
    """
    return scree_mask_before_5_4 if "cache_position" in inspect.signature(theirs).parameters else scree_mask


def scree_mask_before_5_4(
    batch_size: int,
    cache_position: torch.Tensor,
    kv_length: int,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: torch.Tensor | None = None,
    **kwargs: Any,
) -> torch.Tensor | None:
    """Return what ``scree_mask`` does.

    Parameters
    ----------
    cache_position : torch.Tensor of shape (queries,)
        Positions of the queries, one after another.
    batch_size, kv_length, kv_offset, mask_function, attention_mask, **kwargs
        As in ``scree_mask``.

    Notes
    -----
    Where there are more keys than queries, the first position is read on the host, one sync: a cache with room left
    is told from a full one by nothing else.
    """
    queries = cache_position.shape[0]
    first = 0 if kv_offset + kv_length <= queries else int(cache_position[0])
    return scree_mask(batch_size, queries, kv_length, first, kv_offset, mask_function, attention_mask, **kwargs)
