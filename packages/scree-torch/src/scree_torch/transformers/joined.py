"""One field of all examples, such as their token ids, end to end in int64: lists, NumPy arrays and tensors alike."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError

NameOf = Callable[[int], str]
"""Says what an error calls row ``i``, such as ``examples[3]["input_ids"]``."""

INT64_MAX = np.iinfo(np.int64).max
# Not uint64, which int64 may not hold: that is looked at row by row.
NARROW = frozenset(np.dtype(name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"))
NARROW_TORCH = frozenset(getattr(torch, dtype.name) for dtype in NARROW)


def joined(rows: Sequence[Any], name_of: NameOf, *, bools: bool = False) -> tuple[np.ndarray, list[int]]:
    """Join rows of whole numbers, and tell their lengths.

    Parameters
    ----------
    rows : sequence of lists, tuples, 1-D arrays or 1-D tensors
        At least one; in host memory, of any integer dtype.
    name_of : callable
        What an error calls a row, by its number.
    bools : bool, default False
        Whether rows may be bool.

    Returns
    -------
    values : numpy.ndarray of shape (total,), int64
        New memory, whatever the rows are.
    lengths : list of int
        The length of each row.

    Raises
    ------
    ShapeError
        A row isn't 1-D.
    ArgumentTypeError
        A row is nothing of the above, or its elements aren't whole numbers.
    ArgumentError
        A row is on a device, or holds a number that int64 can't.

    Notes
    -----
    Rows of one kind are joined at once, without a loop over their elements in Python. Where that can't be done, each
    row is looked at by itself, which also finds the one that is wrong.
    """
    kinds = set(map(type, rows))
    join = JOIN.get(kinds.pop()) if len(kinds) == 1 else None
    values = join(rows) if join else None
    if values is not None:
        return values, [len(row) for row in rows]
    parts = [_row(row, name_of(i), bools) for i, row in enumerate(rows)]
    return np.concatenate(parts), [len(part) for part in parts]


# ---------------------------------------------------------------------- rows of one kind; None where one isn't simple


def _lists(rows: Sequence[list[Any]]) -> np.ndarray | None:
    if any(row and isinstance(row[0], bool) for row in rows):
        return None
    buffer = array("q")
    try:
        for row in rows:
            buffer.fromlist(row)  # twice as fast as NumPy, and refuses floats and strings
    except (TypeError, OverflowError):
        return None
    return np.frombuffer(buffer, np.int64)


def _arrays(rows: Sequence[np.ndarray]) -> np.ndarray | None:
    if any(row.ndim != 1 or row.dtype not in NARROW for row in rows):
        return None
    return np.concatenate(rows, dtype=np.int64)


def _tensors(rows: Sequence[torch.Tensor]) -> np.ndarray | None:
    dtypes = {row.dtype for row in rows}
    if len(dtypes) > 1 or not dtypes <= NARROW_TORCH or any(row.ndim != 1 or not row.is_cpu for row in rows):
        return None
    return torch.cat([*rows]).to(torch.int64).numpy()


JOIN: dict[type, Callable[[Any], np.ndarray | None]] = {list: _lists, np.ndarray: _arrays, torch.Tensor: _tensors}


# ---------------------------------------------------------------------- one row


def _row(row: Any, name: str, bools: bool) -> np.ndarray:
    """Return one row as int64, or raise what is wrong with it."""
    if isinstance(row, np.ma.MaskedArray):
        raise ArgumentTypeError(f"{name}: a MaskedArray has a mask, which would be lost; use x.filled(value)")
    if isinstance(row, torch.Tensor):
        found = row
    elif isinstance(row, (list, tuple)):
        try:
            found = np.array(row)
        except ValueError as error:
            raise ShapeError(f"{name} holds lists of several lengths; give each as an example of its own") from error
    elif hasattr(row, "__array__") or isinstance(row, (int, float, array)):
        found = np.asarray(row)
    else:
        hint = '; tokenise it first: tokenizer(text)["input_ids"]' if isinstance(row, (str, bytes)) else ""
        raise ArgumentTypeError(f"{name} must be a list, an array or a 1-D tensor, got {type(row).__name__}{hint}")
    _check_shape(tuple(found.shape), name)
    if not len(found):
        return np.zeros(0, np.int64)  # torch.tensor([]) is float32
    return _numbers(found, name, bools).astype(np.int64)


def _numbers(found: Any, name: str, bools: bool) -> np.ndarray:
    """Return a row as an array, after checking that it holds whole numbers that int64 can hold."""
    if isinstance(found, torch.Tensor):
        if not found.is_cpu:
            raise ArgumentError(
                f"{name} is on {found.device}, and batches are put together in host memory; use x.cpu(), and let the "
                "Trainer or x.to(device) move whole batches"
            )
        if found.dtype in NARROW_TORCH or found.dtype in (torch.uint64, torch.bool):
            found = found.numpy()
    if not isinstance(found, np.ndarray) or found.dtype.kind not in ("iub" if bools else "iu"):
        raise ArgumentTypeError(f"{name} must hold whole numbers, got {_strange(found)}; convert them to int64")
    if found.dtype == np.uint64 and found.max() > INT64_MAX:
        raise ArgumentError(f"{name} holds {found.max()}, which int64 can't; is that a token id?")
    return found


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) == 0:
        raise ShapeError(
            f"{name} is a single number, and packed rows need one for each token; pad batches of texts with one label "
            "each; with attn_implementation='scree' padding costs no attention"
        )
    if len(shape) == 2 and shape[0] == 1:
        raise ShapeError(
            f'{name} has shape {shape}, a batch of one; tokenise without return_tensors="pt", one text at a time, or '
            "take x[0]"
        )
    if len(shape) != 1:
        raise ShapeError(f"{name} has shape {shape} and must be 1-D; give each of its rows as an example of its own")


def _strange(found: Any) -> str:
    """Say what is no whole number."""
    if not isinstance(found, np.ndarray) or found.dtype.kind != "O":
        return f"{found.dtype}"
    at = next(i for i, x in enumerate(found) if not isinstance(x, int) or abs(x) > INT64_MAX)
    return f"{found[at]!r} at token {at}"
