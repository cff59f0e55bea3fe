"""Sums, extremes and running sums of rows: long ones, odd dtypes, and how exact they are."""

import numpy as np
import pytest
import torch

import scree
from scree_torch import segments

LONG = [1, 5000, 0, 64, 65, 300_000, 63]
"""Rows of one chunk, of two, and of more levels of them than one."""


@pytest.fixture(scope="module")
def arr():
    generator = torch.Generator().manual_seed(0)
    return scree.from_lengths(torch.randn(sum(LONG), 2, generator=generator), LONG)


def exact(fn, arr):
    """Apply a NumPy function to each row in float64."""
    return np.stack([fn(row.double().numpy()) for row in arr])


def test_rows_are_cut_into_chunks_of_their_own(arr):
    parts = segments.segments(arr.offsets, arr.segment_ids, arr.positions, None, tail=False)
    assert torch.equal(parts.row.index_select(0, parts.chunk), arr.segment_ids.long())
    assert torch.bincount(parts.chunk).max() == segments.CHUNK
    assert parts.row[-1] == len(LONG)


def test_long_sums_are_nearly_those_of_float64(arr):
    error = np.abs(scree.varlen_sum(arr).numpy() - exact(lambda row: row.sum(0), arr)).max()
    in_order = np.abs(np.cumsum(arr[5].numpy(), axis=0)[-1] - arr[5].double().sum(0).numpy()).max()
    assert error < in_order / 3


def test_sums_do_not_depend_on_what_the_host_knows(arr):
    unknown = scree.Array.trusted(arr.values, scree.Layout.trusted(arr.offsets))
    short = scree.from_lengths(arr.values[:100], [40, 60])
    hinted = scree.Array.trusted(short.values, scree.Layout.trusted(short.offsets))
    for op in (scree.varlen_sum, scree.varlen_max, scree.varlen_logsumexp, scree.varlen_mean):
        torch.testing.assert_close(op(arr), op(unknown))
        torch.testing.assert_close(op(short), op(hinted))


def test_running_sums_cross_chunks_and_no_rows(arr):
    got, back = scree.varlen_cumsum(arr), scree.varlen_sum(arr)
    for row, total, source in zip(got, back, arr, strict=True):
        expected = source.double().cumsum(0)
        torch.testing.assert_close(row.double(), expected, rtol=0, atol=2e-3)
        if len(row):
            torch.testing.assert_close(row[-1], total, rtol=0, atol=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_nothing_of_a_row_shows_in_another(arr, bad):
    values = arr.values.clone()
    values[10:5000] = bad  # in row 1
    spoilt = arr.with_values(values)
    for op in (scree.varlen_cumsum, scree.varlen_softmax):
        for i, (got, expected) in enumerate(zip(op(spoilt), op(arr), strict=True)):
            assert i == 1 or torch.equal(got, expected)
    keep = torch.tensor([0, 2, 3, 4, 5, 6])
    for op in (scree.varlen_sum, scree.varlen_max, scree.varlen_logsumexp):
        assert torch.equal(op(spoilt)[keep], op(arr)[keep])


def test_running_sums_have_the_gradient_of_the_sum_from_behind(arr):
    values = arr.values.double().requires_grad_()
    upstream = torch.randn_like(values)
    (got,) = torch.autograd.grad(scree.varlen_cumsum(arr.with_values(values)).values, values, upstream)
    rows = [row.flip(0).cumsum(0).flip(0) for row in arr.with_values(upstream)]
    torch.testing.assert_close(got, torch.cat(rows))


def test_halves_lose_nothing_to_long_rows():
    ones = scree.from_lengths(torch.ones(5000, 1, dtype=torch.bfloat16), [4096, 904])
    assert scree.varlen_sum(ones).flatten().tolist() == [4096, 904]
    dense = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    scree.repeat_rows(dense, like=ones).values.sum().backward()
    assert dense.grad.flatten().tolist() == [4096, 904]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "uint32", "int64"])
def test_integers_are_added_up_in_int64(dtype):
    host = np.array([1, 1, 0, 1, 1], dtype)
    arr = scree.from_lengths(torch.from_numpy(host), [2, 0, 3])
    assert scree.varlen_sum(arr).tolist() == [2, 0, 2]
    assert scree.varlen_sum(arr).dtype == torch.int64
    assert scree.varlen_cumsum(arr).values.tolist() == [1, 2, 0, 1, 2]


def test_tables_of_angles_learn():
    x = scree.from_lengths(torch.randn(5, 2, 6, dtype=torch.float64), [2, 3])
    tables = [torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    for interleaved in (False, True):
        assert torch.autograd.gradcheck(
            lambda c, s, i=interleaved: scree.varlen_rope(x, c, s, interleaved=i).values, tables
        )


def test_wider_weights_do_not_widen_the_result():
    x = scree.from_lengths(torch.randn(5, 4), [2, 3])
    wide = torch.ones(4, dtype=torch.float64, requires_grad=True)
    for out in (scree.varlen_layernorm(x, wide, wide), scree.varlen_rmsnorm(x, wide)):
        assert out.dtype == torch.float32
        (grad,) = torch.autograd.grad(out.values.sum(), wide)
        assert grad.dtype == torch.float64


@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_a_single_feature_is_its_own_mean(eps):
    x = torch.randn(5, 1, requires_grad=True)
    weight, bias = torch.randn(1, requires_grad=True), torch.randn(1, requires_grad=True)
    out = scree.varlen_layernorm(scree.from_lengths(x, [2, 3]), weight, bias, eps=eps).values
    if eps == 0:
        assert out.isnan().all()
    else:
        assert torch.equal(out, bias.expand(5, 1))
        grads = torch.autograd.grad(out.sum(), (x, weight, bias))
        assert [g.flatten().tolist() for g in grads] == [[0] * 5, [0], [5]]
