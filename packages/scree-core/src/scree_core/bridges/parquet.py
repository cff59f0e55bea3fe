"""Rows of a Parquet file, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import Any

import numpy as np

from scree_core.array import Array
from scree_core.bridges.arrow import array_of_lists, check_lists
from scree_core.bridges.library import library
from scree_core.errors import ArgumentError, ArgumentTypeError


def from_parquet(path: Any, column: str, batch_size: int = 1024) -> Iterator[Array[np.ndarray]]:
    """Read a column of lists from a Parquet file as Arrays of at most ``batch_size`` rows each.

    Parameters
    ----------
    path : str, os.PathLike, or open binary file
    column : str
        Of type list or large_list, of what ``from_arrow`` takes.
    batch_size : int, default 1024
        Rows of an Array; the last one has what is left.

    Returns
    -------
    iterator of Array
        As from ``from_arrow``, in the file's order.

    Raises
    ------
    ArgumentError
        There is no such column, or ``batch_size`` isn't positive.
    ArgumentTypeError
        The column doesn't hold lists, or ``batch_size`` is no integer.
    ShapeError
        The lists hold what ``from_arrow`` refuses. Nulls are found when their batch is read; the message has the
        row's number in the file.
    BackendNotInstalledError
        PyArrow isn't installed.

    Notes
    -----
    The file is opened, and column and type are checked, at the call; it is closed behind the last batch, or when the
    iterator is. Reads the one column, and about a batch at a time: what Parquet has compressed is copied once as it
    is decoded, and then shared as by ``from_arrow``. To write, ``pyarrow.parquet.write_table`` takes
    ``pyarrow.table({"tokens": to_arrow(arr)})``.
    """
    pa = library("pyarrow", "from_parquet", "pyarrow")
    parquet = library("pyarrow.parquet", "from_parquet", "pyarrow")
    try:
        rows = index(batch_size)
    except TypeError:
        raise ArgumentTypeError(f"batch_size must be an integer, got {batch_size!r}") from None
    if rows < 1:
        raise ArgumentError(f"batch_size must be at least 1, got {rows}")
    file = parquet.ParquetFile(path)
    try:
        names = file.schema_arrow.names
        if column not in names:  # iter_batches would give batches of no columns
            raise ArgumentError(f"there is no column {column!r}; the file has {', '.join(map(repr, names))}")
        check_lists(pa, file.schema_arrow.field(column).type)
    except Exception:
        file.close()
        raise
    return _batches(pa, file, column, rows)


def _batches(pa: Any, file: Any, column: str, batch_size: int) -> Iterator[Array[np.ndarray]]:
    done = 0
    with file:
        for batch in file.iter_batches(batch_size, columns=[column]):
            yield array_of_lists(pa, batch.column(column), first_row=done)
            done += batch.num_rows
