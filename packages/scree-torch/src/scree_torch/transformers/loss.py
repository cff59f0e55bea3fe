"""The loss of causal models of transformers, where no label comes from another row."""

from __future__ import annotations

from typing import Any, cast

import torch

from scree_core import Array, varlen_cross_entropy
from scree_core.errors import ShapeError
from scree_torch.transformers.rows import by_lengths, whole


def causal_lm_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    ignore_index: int = -100,
    shift_labels: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """Return the mean cross-entropy of the next token: what a model of transformers calls as its ``loss_function``.

    ``model.loss_function = scree.hf.causal_lm_loss`` takes the place of transformers' own, for the ``Trainer`` too.

    Parameters
    ----------
    logits : torch.Tensor of shape (batch, length, vocab)
        In any floating dtype.
    labels : torch.Tensor of int, shape (batch, length)
        Token ids, not shifted; ``ignore_index`` where nothing is learnt.
    vocab_size : int, optional
        Must be the last size of the logits.
    num_items_in_batch : int or torch.Tensor, optional
        What the sum is divided by, instead of the number of labels that count here: the ``Trainer`` gives that of all
        micro-batches.
    ignore_index : int, default -100
        The label that doesn't count.
    shift_labels : torch.Tensor of int, shape (batch, length), optional
        Labels that are shifted already, in place of the others.
    cu_seq_lens_q : torch.Tensor of shape (rows + 1,), optional
        The rows of a packed batch ``(1, total)``, which a model that is called with them passes on.
    max_length_q : int, optional
        The longest of them.
    **kwargs
        What else the model passes on, such as ``position_ids``; it doesn't matter to the loss.

    Returns
    -------
    torch.Tensor of shape ()
        In float32, or float64 for float64 logits. 0 where no label counts, where transformers gives NaN.

    Raises
    ------
    ShapeError
        Logits, labels and rows don't fit.

    Notes
    -----
    The same as transformers' to rounding wherever the first label of each row is ignored; with ``cu_seq_lens_q`` it
    needs not be. Costs what ``scree.varlen_cross_entropy`` does: transformers makes a float32 copy of the logits, and
    one of their gradient.

    Examples
    --------
    >>> import scree.hf  # doctest: +SKIP
    >>> model.loss_function = scree.hf.causal_lm_loss  # doctest: +SKIP
    >>> model(**batch).loss  # doctest: +SKIP
    """
    told = labels if shift_labels is None else shift_labels
    if logits.ndim != 3 or tuple(told.shape) != tuple(logits.shape[:2]):
        raise ShapeError(
            f"logits must be (batch, length, vocab) and labels (batch, length), got {tuple(logits.shape)} and "
            f"{tuple(told.shape)}; with logits_to_keep give no labels"
        )
    if vocab_size is not None and vocab_size != logits.shape[2]:
        raise ShapeError(
            f"logits have {logits.shape[2]} classes, and vocab_size is {vocab_size}; they must be the same, as after "
            "model.resize_token_embeddings(vocab_size)"
        )
    batch, length, _ = logits.shape
    if cu_seq_lens_q is None or shift_labels is not None:
        side = whole(batch, length, logits)
    elif batch == 1:
        side = by_lengths(cu_seq_lens_q, max_length_q, length, "cu_seq_lens_q", logits)
    else:
        raise ShapeError(f"cu_seq_lens_q tells the rows of one packed sequence, and these are {batch} of them")
    loss = varlen_cross_entropy(
        Array.trusted(logits.flatten(0, 1), side.layout),
        told.flatten().to(logits.device),
        shift=shift_labels is None,
        num_items=_on(num_items_in_batch, logits),
        ignore_index=ignore_index,
    )
    return cast(torch.Tensor, loss)  # a scalar, by this reduction


def _on(count: torch.Tensor | int | None, like: torch.Tensor) -> Any:
    """Return a count on the device of the logits; gathered from several processes it may be (1,)."""
    return count.reshape(()).to(like.device) if isinstance(count, torch.Tensor) else count
