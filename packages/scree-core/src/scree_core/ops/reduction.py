"""What the reductions over rows check alike: the dtype, and what an empty row gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scree_core.arguments import INTEGER_DTYPES, check_array, check_holds, front, layout_of
from scree_core.array import Array
from scree_core.backend import FLOAT_DTYPES
from scree_core.dispatch import Call
from scree_core.errors import ArgumentError, ShapeError


def prepare_reduction(op: str, x: Array[Any], empty: Any, identity: float, dtypes: tuple[str, ...]) -> Call:
    """Check the arguments of a reduction; ``empty`` becomes the number that an empty row gives."""
    check_array(x, "x")
    dtype = x.backend.dtype_name(x.values)
    if dtype not in dtypes:
        known = dtype in (*INTEGER_DTYPES, "bool")
        mend = f'cast them first, x.astype("{dtypes[1]}")' if known else f"it takes {', '.join(dtypes)}"
        raise ShapeError(f"{op} can't take values of dtype {dtype}; {mend}")
    return Call(op, (front(x), layout_of(x)), {"empty": _value(op, x, empty, identity, dtype)}, {"x": x.values})


def _value(op: str, x: Array[Any], empty: Any, identity: float, dtype: str) -> Any:
    if isinstance(empty, str) and empty == "error":
        _refuse_empty_rows(op, x)
        empty = "identity"
    if isinstance(empty, str) and empty == "identity":
        return identity if dtype in FLOAT_DTYPES else _integer_identity(identity, dtype)
    if isinstance(empty, str) and empty == "nan":
        empty = math.nan
    if isinstance(empty, (bool, np.bool_)) or not isinstance(empty, (int, float, np.integer, np.floating)):
        raise ArgumentError(f'empty must be "identity", "nan", "error" or a number, got {empty!r}')
    check_holds("empty", empty, "int64" if dtype == "bool" else dtype)
    return float(empty) if dtype in FLOAT_DTYPES else int(empty)


def _integer_identity(identity: float, dtype: str) -> int:
    if math.isfinite(identity):
        return int(identity)
    info = np.iinfo(dtype)
    return int(info.min if identity < 0 else info.max)


def _refuse_empty_rows(op: str, x: Array[Any]) -> None:
    if x.min_length is not None and x.min_length > 0:
        return
    lengths = np.diff(x.backend.host_offsets(x.layout))
    if lengths.size and lengths.min() == 0:
        i = int(lengths.argmin())
        raise ShapeError(f'{op}: row {i} is empty; choose what it gives with empty="identity", "nan" or a number')
