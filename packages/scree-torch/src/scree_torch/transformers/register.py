"""Telling transformers of an attention implementation."""

from __future__ import annotations

from scree_core.errors import ArgumentTypeError, BackendNotInstalledError
from scree_torch.transformers.attention import scree_attention
from scree_torch.transformers.mask import scree_mask


def register(name: str = "scree") -> None:
    """Let models of transformers use ``scree.varlen_attention`` as their ``attn_implementation``.

    Parameters
    ----------
    name : str, default "scree"
        What ``from_pretrained(..., attn_implementation=name)`` and ``model.set_attn_implementation(name)`` are told.

    Raises
    ------
    BackendNotInstalledError
        transformers isn't installed, or is older than its registry of masks (4.53).
    ArgumentTypeError
        The name is no string.

    Notes
    -----
    Registers ``scree_attention`` with ``AttentionInterface``, and with ``AttentionMaskInterface`` ``scree_mask``,
    without which attention would hear nothing of padding. Registering again changes nothing.

    Examples
    --------
    >>> import scree.hf  # doctest: +SKIP
    >>> scree.hf.register()  # doctest: +SKIP
    >>> model.set_attn_implementation("scree")  # doctest: +SKIP
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"name must be a string, got {type(name).__name__}")
    try:
        from transformers import AttentionInterface  # pyrefly: ignore[missing-import]
        from transformers.masking_utils import AttentionMaskInterface  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise BackendNotInstalledError(
            f'scree.hf.register needs transformers 4.53 or newer: {error}\n    pip install "scree[torch,transformers]"'
        ) from error
    AttentionInterface.register(name, scree_attention)
    AttentionMaskInterface.register(name, scree_mask)
