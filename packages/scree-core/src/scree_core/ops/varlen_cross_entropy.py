"""Cross-entropy of logits and labels, where no label comes from the neighbouring row."""

from __future__ import annotations

from typing import Any

import numpy as np

from scree_core.arguments import check_array, check_floating, front, layout_of, restore
from scree_core.array import Array
from scree_core.array.elementwise import check_same_layout
from scree_core.dispatch import Call, run
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.protocols import ArrayT, Namespace
from scree_core.reference.making import constant
from scree_core.tail import without_tail

REDUCTIONS = ("token_mean", "row_mean_token_mean", "sum", "row_sum", "none")
LABEL_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16")


def varlen_cross_entropy(
    logits: Array[ArrayT],
    labels: Array[ArrayT] | ArrayT,
    *,
    shift: bool = True,
    reduction: str = "token_mean",
    num_items: Any = None,
    ignore_index: int = -100,
    backend: str | None = None,
) -> Array[ArrayT] | ArrayT:
    """Compare the logits of each element with a label of its own row.

    Parameters
    ----------
    logits : Array with values (total, vocab)
        Floating point, ``ragged_dim`` 0.
    labels : Array or array of int of shape (total,)
        Classes, on the rows of the logits; ``ignore_index`` where an element has none.
    shift : bool, default True
        Compare each element with the label of the element behind it in its row, as models that predict the next
        token need it: the last element of a row then has none. With False, with its own label.
    reduction : str, default "token_mean"
        ``"none"``: the loss of each element. ``"sum"``: their sum. ``"row_sum"``: the sum of each row, minus the
        row's log-probability. ``"token_mean"``: the sum over the number of labels that count.
        ``"row_mean_token_mean"``: the mean of each row's mean, over the rows that have a label that counts.
    num_items : int or array of shape (), optional
        What a mean is divided by instead of the number counted here: of labels for ``"token_mean"``, of rows for
        ``"row_mean_token_mean"``. With the number of all micro-batches and ranks, their losses add up to the loss
        of the full batch. 0 counts as 1.
    ignore_index : int, default -100
        The label that doesn't count.
    backend : str, optional
        Run on the backend of this name, or fail.

    Returns
    -------
    Array or array
        In float32, or float64 for float64 logits. ``"none"``: an Array ``(total,)`` on the layout of the logits, 0
        where an element has no label that counts. ``"row_sum"``: an array ``(batch,)``. Else a scalar, 0 with a
        gradient of 0 where no label counts.

    Raises
    ------
    ShapeError
        Shapes, dtypes or rows don't fit, or a label that counts is no class. Labels that only a device knows
        aren't checked, for that would sync: the loss and the gradient of such an element are NaN.
    ArgumentError
        No such reduction, or ``num_items`` is negative or given where nothing is divided.
    ArgumentTypeError
        Logits that are no Array, or an option of another type.

    Notes
    -----
    ``loss = logsumexp(x) - x[label]`` of an element's logits ``x``, and the gradient ``(softmax(x) - onehot(label)) *
    weight``, both computed in float32 or wider. The loss is NaN where the largest logit is infinite, as PyTorch's is.
    An element whose label doesn't count, the last of a row under ``shift`` and dead elements of a tail have loss and
    gradient 0, whatever their logits. No sync, but where sums of rows are core's default, which reads the offsets.

    PyTorch, JAX and MLX keep the logits for the gradient, as they are given, and nothing else of the size of the
    vocabulary; they compute the softmax again. Either way needs room for one or two arrays like the logits in
    float32 while it runs; the kernels of scree-triton need none, nor do those that ``torch.compile`` makes. A library
    that runs core's default keeps what its own trace of that does.

    Examples
    --------
    >>> import numpy as np, scree
    >>> logits = scree.from_lengths(np.zeros((5, 4)), [3, 2])
    >>> labels = np.array([0, 1, 2, 3, 3])
    >>> scree.varlen_cross_entropy(logits, labels, reduction="none").values.round(3)
    array([1.386, 1.386, 0.   , 1.386, 0.   ])
    >>> float(scree.varlen_cross_entropy(logits, labels).round(3))
    1.386
    >>> -scree.varlen_cross_entropy(logits, labels, reduction="row_sum").round(3)  # log-probabilities of the rows
    array([-2.773, -1.386])
    """
    call = prepare(logits, labels, shift=shift, reduction=reduction, num_items=num_items, ignore_index=ignore_index)
    losses = restore(logits, run(call, backend))
    return losses if reduction == "none" else _reduced(losses, call.args[1], reduction, num_items)


def prepare(
    logits: Array[Any],
    labels: Any,
    *,
    shift: bool = True,
    reduction: str = "token_mean",
    num_items: Any = None,
    ignore_index: int = -100,
) -> Call:
    """Check the arguments; the call is for the loss of each element."""
    check_array(logits, "logits")
    check_floating(logits, "varlen_cross_entropy", "logits")
    if logits.ndim != 2 or logits.ragged_dim != 0 or logits.values.shape[1] == 0:
        raise ShapeError(
            "varlen_cross_entropy needs logits with values (total, vocab), ragged_dim=0 and a class at least, got "
            f"{tuple(logits.values.shape)} with ragged_dim={logits.ragged_dim}"
        )
    _check_options(logits, shift, reduction, num_items, ignore_index)
    if isinstance(labels, Array):
        check_same_layout(logits, labels, "logits and labels")
        labels = labels.values
    if tuple(getattr(labels, "shape", ())) != (logits.total_length,):
        raise ShapeError(f"labels must have shape (total,) = ({logits.total_length},), got {_form(labels)}")
    arrays = {"logits": logits.values, "labels": labels}
    if not logits.backend.owns(labels) or not logits.backend.beside(logits.values, labels):
        return Call("varlen_cross_entropy", (front(logits), labels), {}, arrays)  # dispatch will say what is wrong
    dtype = logits.backend.dtype_name(labels)
    if dtype not in LABEL_DTYPES:
        mend = 'cast them, such as to "int64"' if dtype.startswith("uint") else "they are numbers of classes"
        raise ShapeError(f"labels must be integers ({', '.join(LABEL_DTYPES)}), got {dtype}; {mend}")
    targets = _targets(logits, labels, shift, ignore_index)
    _check_classes(logits, labels, targets, shift)
    return Call("varlen_cross_entropy", (front(logits), targets), {}, arrays)


def _check_options(logits: Array[Any], shift: Any, reduction: Any, num_items: Any, ignore_index: Any) -> None:
    if not isinstance(shift, bool):
        raise ArgumentTypeError(f"shift must be True or False, got {shift!r}")
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}")
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise ArgumentTypeError(f"ignore_index must be an integer, got {ignore_index!r}")
    if not -(2**31) <= ignore_index < 2**31:
        raise ArgumentError(f"ignore_index must fit in int32, got {ignore_index}")
    if num_items is None:
        return
    if not reduction.endswith("mean"):
        raise ArgumentError(f"num_items is what a mean is divided by, but reduction={reduction!r} divides nothing")
    if type(num_items) is int or isinstance(num_items, np.integer):
        if num_items < 0:
            raise ArgumentError(f"num_items must be 0 or more, got {num_items}")
    elif not logits.backend.owns(num_items) or tuple(num_items.shape) != ():
        raise ArgumentTypeError(
            "num_items must be an integer, or an array of shape () of the logits' library, "
            f"got {type(num_items).__name__} {_form(num_items)}"
        )


def _form(x: Any) -> str:
    return str(tuple(x.shape)) if hasattr(x, "shape") else repr(x)


def _targets(logits: Array[Any], labels: Any, shift: bool, ignore_index: int) -> Any:
    """Return what each element is compared with: a class, -1 for nothing, ``vocab`` for what is no class."""
    backend, layout = logits.backend, layout_of(logits)
    labels = without_tail(backend, labels, logits.layout)
    if backend.dtype_name(labels) not in ("int32", "int64"):
        labels = backend.astype(labels, "int32")
    total, at = labels.shape[0], None
    if shift:
        at = backend.positions(layout, total)
    elif layout.tail:
        at = backend.segment_ids(layout, total)
    options = {"shift": shift, "ignore_index": int(ignore_index), "vocab": logits.values.shape[1]}
    return backend.as_one(_compared, (labels, layout.offsets, at), batch=layout.batch_size, **options)


def _compared(
    xp: Namespace, labels: Any, offsets: Any, at: Any, *, shift: bool, ignore_index: int, vocab: int, batch: int
) -> Any:
    alive = None if at is None else at < batch
    if shift:  # by one, with the 0 that all offsets begin with behind the last
        labels = xp.concat([labels, xp.astype(offsets[:1, ...], labels.dtype)], axis=0)[1:, ...]
        # What begins a row, and what is dead, has position 0.
        alive = xp.concat([at, offsets[:1, ...]], axis=0)[1:, ...] > 0
    counts = labels != ignore_index if alive is None else (labels != ignore_index) & alive
    found = xp.where((labels >= 0) & (labels < vocab), labels, constant(xp, vocab, labels))
    return xp.where(counts, found, constant(xp, -1, labels))


def _check_classes(logits: Array[Any], labels: Any, targets: Any, shift: bool) -> None:
    vocab = logits.values.shape[1]
    host = logits.backend.host_view(targets)
    if host is None or not (wrong := host == vocab).any():
        return
    i, given = int(np.argmax(wrong)) + shift, logits.backend.to_numpy(labels)
    raise ShapeError(f"labels[{i}] is {given[i]}, but logits of vocab {vocab} have the classes 0 to {vocab - 1}")


def _reduced(losses: Array[Any], targets: Any, reduction: str, num_items: Any) -> Any:
    backend, each, layout = losses.backend, front(losses), layout_of(losses)
    if reduction == "sum":
        return backend.as_one(_sum, (each,))
    if reduction == "token_mean":
        return backend.as_one(_token_mean, (each, targets, num_items))
    sums = backend.varlen_sum(each, layout, empty=0.0)
    if reduction == "row_sum":
        return sums
    counts = backend.varlen_sum(backend.as_one(_counts, (targets,)), layout, empty=0)
    return backend.as_one(_mean_of_means, (sums, counts, num_items))


def _sum(xp: Namespace, x: Any) -> Any:
    return xp.sum(x)


def _counts(xp: Namespace, targets: Any) -> Any:
    return xp.astype(targets >= 0, xp.int32)


def _token_mean(xp: Namespace, losses: Any, targets: Any, num_items: Any) -> Any:
    return _over(xp, xp.sum(losses), xp.sum(_counts(xp, targets)) if num_items is None else num_items)


def _mean_of_means(xp: Namespace, sums: Any, counts: Any, num_items: Any) -> Any:
    means = _over(xp, sums, counts)
    return _over(xp, xp.sum(means), xp.sum(xp.astype(counts > 0, xp.int32)) if num_items is None else num_items)


def _over(xp: Namespace, total: Any, count: Any) -> Any:
    """Return a quotient in the dtype of ``total``; a count of 0 is taken for 1."""
    if isinstance(count, (int, np.integer)):
        return total / max(int(count), 1)
    count = xp.astype(count, total.dtype)
    return total / xp.maximum(count, constant(xp, 1, count))
