"""The cases of every op, and the calls that must be refused: one file an op."""

from __future__ import annotations

from scree_core.testing.case import Case, ErrorCase
from scree_core.testing.cases import (
    from_padded,
    pack,
    positions,
    reductions,
    repeat_rows,
    segment_ids,
    take_rows,
    to_padded,
    varlen_attention,
    varlen_cross_entropy,
    varlen_cumsum,
    varlen_layernorm,
    varlen_rmsnorm,
    varlen_rope,
    varlen_softmax,
)

_FILES = (
    pack,
    take_rows,
    to_padded,
    from_padded,
    segment_ids,
    positions,
    repeat_rows,
    varlen_attention,
    varlen_layernorm,
    varlen_rmsnorm,
    varlen_softmax,
    varlen_rope,
    reductions,
    varlen_cumsum,
    varlen_cross_entropy,
)

CASES: dict[str, list[Case]] = {}
ERRORS: dict[str, list[ErrorCase]] = {}
for _file in _FILES:
    for _case in _file.CASES:
        CASES.setdefault(_case.op, []).append(_case)
    for _error in _file.ERRORS:
        ERRORS.setdefault(_error.op, []).append(_error)
