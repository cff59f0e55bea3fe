"""Whether rows of a batch hear of each other in a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import index
from typing import Any

import numpy as np
import torch

from scree_core import Array
from scree_core.errors import ArgumentError, ArgumentTypeError, BackendNotInstalledError
from scree_torch.audit.call import Caller
from scree_torch.audit.inputs import Inputs
from scree_torch.audit.report import Report
from scree_torch.audit.search import PROBES, Search
from scree_torch.audit.slots import NOBODY


def leaks(
    model: torch.nn.Module | Callable[..., Any],
    batch: Any,
    *,
    rows: Any = None,
    inputs: Sequence[Any] | None = None,
    probes: Sequence[str] = PROBES,
    gradients: bool = True,
    only: Iterable[int] | None = None,
    keep: Iterable[int] = (),
    tolerance: float = 0.0,
    seed: int = 0,
    progress: bool | None = None,
) -> Report:
    """Find rows of a batch that reach each other in a model: documents that see their neighbours.

    One row after another gets other contents, and then NaN, and so does the gradient that enters it; whatever changes
    in other rows, in outputs or in the gradients that come back to the inputs, is a leak.

    Parameters
    ----------
    model : torch.nn.Module or callable
        The model, in the mode and on the device in which it is used. A function of tensors or Arrays works too; modules
        are named only for a module, a method of one, or a ``functools.partial`` of these.
    batch : mapping, tuple or list, or anything else
        What the model is called with: keyword arguments, positional ones, or the only one. With labels the gradients
        of the model's own loss are audited too, and by them whether a label comes from another row.
    rows : array of whole numbers, shape (batch, length) or (total,), optional
        The row of each slot, -1 for padding. By default rows are told as to transformers' models: by Arrays, by
        ``cu_seq_lens_q``, by ``seq_idx``, by ``attention_mask`` and by ``position_ids`` that begin anew; else each
        sequence is one.
    inputs : sequence of str or int, optional
        What is changed, by keys or places. By default ``input_ids``, ``inputs_embeds``, ``input_values``,
        ``input_features``, ``decoder_input_ids`` and ``labels``; where there are none of these all Arrays, else all
        floating tensors, else the first tensor.
    probes : sequence of {"change", "nan"}, default both
        ``"change"`` shows whether contents reach other rows, ``"nan"`` whether anything does, a zero weight times a
        value among it. Attention that masks scores lets NaN through and no contents.
    gradients : bool, default True
        Whether to look at gradients too.
    only : iterable of int, optional
        Rows to change; by default all, and padding.
    keep : iterable of int, optional
        Ids that aren't changed, and don't come in place of others: those that end a document, where a model tells rows
        by them.
    tolerance : float, default 0
        Differences up to this share of the largest magnitude count as none. 0 is right where the arithmetic of a row
        doesn't depend on the others; a mixture of experts that multiplies as many tokens as an expert gets may round
        differently.
    seed : int, default 0
        Of the random contents.
    progress : bool, optional
        Whether to show a bar, by tqdm; by default where that is installed, on a terminal, after a second.

    Returns
    -------
    Report
        A sequence of ``Leak``, empty where rows are kept apart: ``assert not scree.audit.leaks(model, batch)``. It
        names the first module where a leak shows, and what couldn't be tried.

    Raises
    ------
    ArgumentError
        The model isn't deterministic (the message names the first module that isn't), has NaN in its outputs from the
        start, or returns nothing in which rows are seen; an argument has a wrong value.
    ArgumentTypeError
        An argument has a wrong type.
    ShapeError
        Rows don't fit the batch.
    UnsupportedError
        The batch doesn't tell its rows.
    BackendNotInstalledError
        ``progress=True`` without tqdm.

    Notes
    -----
    Costs ``2 + len(probes) * rows`` calls forward and backward, two more for each kind of leak found, and the memory of
    the outputs once more. Parameters and their ``.grad``, buffers, modes, hooks and random states are as before
    afterwards, also after Ctrl-C. Ids can't be NaN: the outputs of the ``torch.nn.Embedding`` that is given them are,
    and gradients are those of its outputs. Gradients are of a sum of outputs with random weights, and of the scalars
    that the model returns.

    What isn't seen: rows that reach each other only on other inputs, and differences that a model rounds away.

    Examples
    --------
    >>> import torch, scree
    >>> batch = scree.from_lengths(torch.randn(6, 4), [3, 1, 2])
    >>> bool(scree.audit.leaks(lambda x: x * scree.varlen_softmax(x).values, batch))
    False
    >>> report = scree.audit.leaks(lambda x: x - x.values.mean(0), batch, probes=["change"], gradients=False)
    >>> [(leak.source, leak.target) for leak in report]
    [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    """
    if not callable(model):
        raise ArgumentTypeError(f"model must be callable, got {type(model).__name__}")
    probes = _checked_probes(probes)
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
        raise ArgumentError(f"tolerance={tolerance!r} must be a share of the largest magnitude, from 0 to below 1")
    bar = _bar(progress)
    with torch.inference_mode(False):  # what is made in inference mode can't be saved for backward
        given = Inputs(batch, inputs, rows, keep)
        sources = _sources(given, only)
        search = Search(Caller(model, given, gradients), float(tolerance), seed)
        with torch.random.fork_rng(devices=_devices(given)):
            _run(search, [(probe, row) for probe in probes for row in sources], bar)
    return search.report(probes, [row for row in sources if row != NOBODY])


def _run(search: Search, steps: list[tuple[str, int]], bar: Callable[[list[Any]], Iterable[Any]]) -> None:
    search.begin()
    for probe, row in bar(steps):
        search.probe(probe, row)


def _checked_probes(probes: Sequence[str]) -> list[str]:
    found = [probes] if isinstance(probes, str) else list(probes)
    for probe in found:
        if probe not in PROBES:
            raise ArgumentError(f"probes={probe!r} must be among {', '.join(map(repr, PROBES))}")
    if not found:
        raise ArgumentError(f"probes=() tries nothing; give some of {', '.join(map(repr, PROBES))}")
    return found


def _sources(given: Inputs, only: Iterable[int] | None) -> list[int]:
    """Return the rows that are changed: those that have elements, and padding."""
    present = np.unique(np.concatenate([grid.ravel() for grid in given.slots.grids.values()])).tolist()
    if only is None:
        return [row for row in present if row != NOBODY] + [NOBODY] * (NOBODY in present)
    chosen = []
    for row in only:
        try:
            row = index(row)
        except TypeError:
            raise ArgumentTypeError(f"only={row!r} must be the number of a row") from None
        if row not in present:
            raise ArgumentError(f"only={row} is no row with elements; the batch has {given.slots.count} rows")
        chosen.append(row)
    return chosen


def _devices(given: Inputs) -> list[int]:
    """Return the GPUs whose random states are put back."""
    tensors = [x.values if isinstance(x, Array) else x for x in given.all.values()]
    return sorted({x.get_device() for x in tensors if isinstance(x, torch.Tensor) and x.is_cuda})


def _bar(progress: bool | None) -> Callable[[list[Any]], Iterable[Any]]:
    """Return what shows how far the audit is."""
    if progress is False:
        return iter
    try:
        from tqdm import tqdm  # pyrefly: ignore[missing-import]
    except ImportError as error:
        if progress:
            raise BackendNotInstalledError("progress=True needs tqdm\n    pip install tqdm") from error
        return iter
    return lambda steps: tqdm(steps, desc="audit", unit="row", delay=1.0, disable=None if progress is None else False)
