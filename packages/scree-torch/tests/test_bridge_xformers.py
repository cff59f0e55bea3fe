"""xFormers' masks, as a stand-in with the fields of theirs; tests/bridges has the real ones."""

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import scree
from scree_core.errors import ArgumentError, ArgumentTypeError, BackendNotInstalledError, ShapeError
from scree_torch.bridges import from_xformers, to_xformers

KINDS = (
    *("BlockDiagonalMask", "BlockDiagonalCausalMask", "BlockDiagonalCausalFromBottomRightMask"),
    *("BlockDiagonalCausalLocalAttentionMask", "BlockDiagonalCausalLocalAttentionFromBottomRightMask"),
)


@dataclass
class SeqInfo:
    seqstart: torch.Tensor
    max_seqlen: int
    min_seqlen: int
    seqstart_py: list[int]


@dataclass
class Bias:
    q_seqinfo: Any
    k_seqinfo: Any
    _window_size: int | None = None


@pytest.fixture
def xformers(monkeypatch):
    for name in ("xformers", "xformers.ops", "xformers.ops.fmha", "xformers.ops.fmha.attn_bias"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = sys.modules["xformers.ops.fmha.attn_bias"]
    module._SeqLenInfo = SeqInfo
    for kind in KINDS:
        setattr(module, kind, type(kind, (Bias,), {}))


def rows(offsets, dtype=torch.int32, tail=0, device="cpu"):
    values = torch.zeros(offsets[-1] + tail, 2, device=device)
    return scree.Array(values, torch.tensor(offsets, dtype=dtype, device=device), tail=tail > 0)


@pytest.mark.usefixtures("xformers")
def test_int32_offsets_are_shared():
    q, k = rows([0, 3, 3, 5]), rows([0, 4, 4, 9])
    bias = to_xformers(q, k)
    assert type(bias).__name__ == "BlockDiagonalMask"
    assert bias.q_seqinfo == SeqInfo(q.offsets, 3, 0, [0, 3, 3, 5])
    assert bias.q_seqinfo.seqstart is q.offsets
    assert bias.k_seqinfo.seqstart is k.offsets
    assert type(bias.q_seqinfo.max_seqlen) is type(bias.q_seqinfo.min_seqlen) is int


@pytest.mark.usefixtures("xformers")
def test_wide_offsets_are_narrowed_once_for_a_layout():
    q = rows([0, 3, 5], torch.int64)
    first, second = to_xformers(q), to_xformers(q.with_values(q.values + 1))
    assert first.q_seqinfo.seqstart.dtype == torch.int32
    assert first.q_seqinfo.seqstart is second.q_seqinfo.seqstart


@pytest.mark.usefixtures("xformers")
@pytest.mark.parametrize("offsets", [[0], [0, 0], [0, 0, 2]], ids=str)
def test_empty_rows_and_batches_cross(offsets):
    q = rows(offsets)
    bias = to_xformers(q, causal=True)
    assert bias.q_seqinfo is bias.k_seqinfo
    back = from_xformers(q.values[None], bias)
    assert back.offsets is q.offsets
    assert back.values.shape == q.values.shape


@pytest.mark.usefixtures("xformers")
@pytest.mark.parametrize(
    ("k", "causal", "window", "kind", "size"),
    [
        (None, False, None, "BlockDiagonalMask", None),
        (None, False, (50, 50), "BlockDiagonalMask", None),
        (None, True, None, "BlockDiagonalCausalMask", None),
        (None, False, (-1, 0), "BlockDiagonalCausalMask", None),
        (None, True, (1, 7), "BlockDiagonalCausalLocalAttentionMask", 2),
        ([0, 3, 5], True, None, "BlockDiagonalCausalMask", None),
        ([0, 3, 6], True, None, "BlockDiagonalCausalFromBottomRightMask", None),
        ([0, 3, 6], True, (50, -1), "BlockDiagonalCausalFromBottomRightMask", None),
        ([0, 3, 6], False, (0, 0), "BlockDiagonalCausalLocalAttentionFromBottomRightMask", 1),
    ],
)
def test_each_question_has_its_mask(k, causal, window, kind, size):
    bias = to_xformers(rows([0, 3, 5]), k and rows(k), causal=causal, window=window)
    assert (type(bias).__name__, bias._window_size) == (kind, size)
    assert (bias.q_seqinfo is bias.k_seqinfo) == (k in (None, [0, 3, 5]))


@pytest.mark.usefixtures("xformers")
def test_rows_of_another_library_and_of_another_axis_do():
    arr = scree.from_lengths(np.zeros((2, 5)), [3, 2], ragged_dim=1)
    assert to_xformers(arr).q_seqinfo.seqstart_py == [0, 3, 5]


@pytest.mark.usefixtures("xformers")
def test_a_capacity_that_is_full_has_no_tail():
    q = rows([0, 3, 5])
    full = scree.Array(q.values, q.offsets, tail=True)
    assert to_xformers(full).q_seqinfo.seqstart_py == [0, 3, 5]


@pytest.mark.usefixtures("xformers")
@pytest.mark.parametrize(
    ("q", "k", "options", "error", "match"),
    [
        (torch.ones(3), None, {}, ArgumentTypeError, "q must be a scree.Array"),
        (rows([0, 1]), torch.ones(3), {}, ArgumentTypeError, "k must be a scree.Array"),
        (rows([0, 1]), rows([0, 1, 2]), {}, ShapeError, "got 1 and 2 rows"),
        (rows([0, 1]), rows([0, 1], device="meta"), {}, ShapeError, "q is on cpu, k on meta"),
        (rows([0, 1]), rows([0, 1], tail=2), {}, ShapeError, r"k has a tail, 2 .*scree.unbucket\(k\)"),
        (rows([0, 1, 3]), rows([0, 1, 2]), {"causal": True}, ShapeError, "row 1 has 2 queries and 1 keys"),
        (rows([0, 3]), None, {"window": (1, 1)}, ArgumentError, r"window=\(1, 1\) isn't causal"),
        (rows([0, 3]), None, {"window": (1, -1)}, ArgumentError, "isn't causal"),
        (rows([0, 3]), None, {"window": (-2, 0)}, ArgumentError, "window bounds"),
        (rows([0, 3]), None, {"window": 3}, ArgumentTypeError, "window must be a pair"),
    ],
)
def test_what_xformers_has_no_mask_for_is_refused(q, k, options, error, match):
    with pytest.raises(error, match=match):
        to_xformers(q, k, **options)


@pytest.mark.usefixtures("xformers")
def test_more_elements_than_32_bits_count_are_refused():
    offsets = torch.tensor([0, 2**31], dtype=torch.int64)
    with pytest.raises(ShapeError, match="q has 2147483648 elements"):
        to_xformers(scree.Array(torch.zeros(1, dtype=torch.int8).expand(2**31), offsets))


def test_without_xformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xformers", None)
    with pytest.raises(BackendNotInstalledError, match="pip install xformers"):
        to_xformers(rows([0, 1]))


def made(queries=(0, 1, 3), keys=(0, 4, 5), **gaps):
    bias = Bias(*(SeqInfo(torch.tensor(x, dtype=torch.int32), 0, 0, list(x)) for x in (queries, keys)))
    vars(bias.k_seqinfo).update(gaps)
    return bias


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_values_and_offsets_are_shared_and_the_host_knows_the_rows(dtype):
    bias, values = made(), torch.ones(1, 5, 2, 3, dtype=dtype)
    arr = from_xformers(values, bias, rows="k")
    assert arr.values.data_ptr() == values.data_ptr()
    assert arr.values.shape == (5, 2, 3)
    assert arr.offsets is bias.k_seqinfo.seqstart
    assert (arr.max_length, arr.min_length) == (4, 1)
    assert arr.layout.host.dtype == np.int32
    assert from_xformers(values[:, :3], bias).lengths.tolist() == [1, 2]


def test_gradients_flow_back():
    values = torch.ones(1, 3, requires_grad=True)
    scree.varlen_sum(from_xformers(values, made())).sum().backward()
    assert values.grad.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("values", "bias", "options", "error", "match"),
    [
        ([1], made(), {}, ArgumentTypeError, "values must be a tensor, got list"),
        (torch.ones(1, 3), made(), {"rows": "kv"}, ArgumentError, "rows must be 'q' or 'k', got 'kv'"),
        (torch.ones(1, 3), None, {}, ArgumentTypeError, "bias must have q_seqinfo .* got NoneType"),
        (torch.ones(1, 5), made(seqlen=1), {"rows": "k"}, ArgumentTypeError, "k rows of Bias have gaps"),
        (torch.ones(3), made(), {}, ShapeError, r"\(1, total, ...\), as xFormers has them, got \(3,\)"),
        (torch.ones(2, 3), made(), {}, ShapeError, r"got \(2, 3\)"),
        (torch.ones(1, 4), made(), {}, ShapeError, "values have 4 elements, but the q rows of bias have 3"),
        (torch.ones(1, 3, device="meta"), made(), {}, ShapeError, r"use bias.to\(meta\)"),
    ],
)
def test_what_does_not_fit_is_refused(values, bias, options, error, match):
    with pytest.raises(error, match=match):
        from_xformers(values, bias, **options)
