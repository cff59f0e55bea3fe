"""Telling transformers of an attention implementation."""

from __future__ import annotations

from scree_core.errors import ArgumentTypeError, BackendNotInstalledError
from scree_torch.transformers.attention import scree_attention
from scree_torch.transformers.versions import check_version, mask_for


def register(name: str = "scree") -> None:
    """Let models of transformers use ``scree.varlen_attention`` as their ``attn_implementation``.

    Parameters
    ----------
    name : str, default "scree"
        What ``from_pretrained(..., attn_implementation=name)`` and ``model.set_attn_implementation(name)`` are told.

    Raises
    ------
    BackendNotInstalledError
        transformers isn't installed, or is older than 4.54.
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
        import transformers  # pyrefly: ignore[missing-import]
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "transformers":
            raise  # installed, but broken
        raise BackendNotInstalledError(
            f'scree.hf.register needs transformers: {error}\n    pip install "scree[torch,transformers]"'
        ) from error
    check_version(transformers.__version__)
    from transformers import AttentionInterface  # pyrefly: ignore[missing-import]
    from transformers.masking_utils import AttentionMaskInterface  # pyrefly: ignore[missing-import]

    AttentionInterface.register(name, scree_attention)
    AttentionMaskInterface.register(name, mask_for(AttentionMaskInterface()["eager"]))
