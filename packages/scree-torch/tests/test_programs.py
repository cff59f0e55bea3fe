"""Calls of one form are checked once, and only what is the same call in every respect is one form."""

import gc
import importlib
import weakref

import pytest
import torch

import scree
from scree_core import programs

op = importlib.import_module("scree_core.ops.varlen_attention")  # the function hides the module
LENGTHS = [3, 0, 5]


@pytest.fixture(autouse=True)
def _nothing_known():
    programs.forget()
    yield
    programs.forget()


def drawn(lengths=LENGTHS, heads=2, head_dim=8, dtype=torch.float32):
    values = torch.randn(sum(lengths), heads, head_dim).to(dtype)
    return scree.from_lengths(values, lengths)


@pytest.fixture
def checks(monkeypatch):
    """Count how many calls are checked."""
    seen = []

    def prepare(*args, **kwargs):
        seen.append(kwargs)
        return real(*args, **kwargs)

    real = op.prepare
    monkeypatch.setattr(op, "prepare", prepare)
    return seen


def test_a_call_like_the_last_is_not_checked_again(checks):
    q = drawn()
    first = scree.varlen_attention(q, q, q, causal=True)
    again = scree.varlen_attention(q, q, q, causal=True)
    other = drawn()
    expected = scree.varlen_attention(other, other, other, causal=True, window=(-1, -1))
    assert len(checks) == 2  # the window's
    assert torch.equal(first.values, again.values)
    assert torch.equal(scree.varlen_attention(other, other, other, causal=True).values, expected.values)
    assert again.layout is q.layout


def test_lse_and_sinks_come_through(checks):
    q, sinks = drawn(), torch.randn(2)
    first = scree.varlen_attention(q, q, q, sinks=sinks, return_lse=True)
    q2, sinks2 = drawn(), torch.randn(2)
    found = scree.varlen_attention(q2, q2, q2, sinks=sinks2, return_lse=True)
    programs.forget()
    expected = scree.varlen_attention(q2, q2, q2, sinks=sinks2, return_lse=True)
    assert len(checks) == 2
    for x, y in zip(found, expected, strict=True):
        assert torch.equal(x.values, y.values)
    assert not torch.equal(found[0].values, first[0].values)


@pytest.mark.parametrize(
    "change",
    [
        {"lengths": [4, 0, 5]},
        {"heads": 4},
        {"head_dim": 16},
        {"dtype": torch.float64},
        {"lengths": [3, 5]},
        {"lengths": [2, 1, 5]},  # shorter rows: another bound
    ],
)
def test_another_form_is_checked(checks, change):
    for q in (drawn([3, 0, 5]) if change.get("lengths") != [2, 1, 5] else drawn([0, 0, 8]), drawn(**change)):
        scree.varlen_attention(q, q, q)
    assert len(checks) == 2


def test_what_only_looks_like_a_known_option_is_refused():
    q = drawn()
    scree.varlen_attention(q, q, q, scale=1.0, softcap=1.0, window=(1, 0))
    with pytest.raises(TypeError, match="scale must be a number"):
        scree.varlen_attention(q, q, q, scale=True, softcap=1.0, window=(1, 0))
    with pytest.raises(TypeError, match="softcap must be a number"):
        scree.varlen_attention(q, q, q, scale=1.0, softcap=True, window=(1, 0))
    with pytest.raises(TypeError, match="window must be a pair"):
        scree.varlen_attention(q, q, q, scale=1.0, softcap=1.0, window=(1.0, 0.0))


def test_layouts_that_may_differ_are_compared_each_time():
    q = drawn([3, 5])
    scree.varlen_attention(q, q, q)
    k, v = drawn([3, 5]), drawn([4, 4])
    with pytest.raises(ValueError, match="k and v need equal offsets"):
        scree.varlen_attention(q, k, v)


def test_an_error_is_raised_each_time():
    q, k = drawn(heads=3), drawn(heads=2)
    for _ in range(2):
        with pytest.raises(ValueError, match="3 heads of q must be a multiple"):
            scree.varlen_attention(q, k, k)


def test_the_backend_that_is_asked_for_is_part_of_a_call():
    q = drawn()
    scree.varlen_attention(q, q, q)
    with pytest.raises(scree.UnsupportedError):
        scree.varlen_attention(q, q, q, backend="numpy")
    with pytest.raises(scree.UnsupportedError), scree.use_backend("numpy"):
        scree.varlen_attention(q, q, q)


def test_no_array_is_kept():
    q, sinks = drawn(), torch.randn(2)
    scree.varlen_attention(q, q, q, sinks=sinks)
    refs = [weakref.ref(x) for x in (q, q.values, q.layout, q.offsets, sinks)]
    assert programs._programs
    del q, sinks
    gc.collect()
    assert [ref() for ref in refs] == [None] * 5


def test_ever_new_forms_start_over(monkeypatch):
    monkeypatch.setattr(programs, "MOST", 3)
    for total in range(1, 6):
        q = drawn([total])
        scree.varlen_attention(q, q, q)
    assert len(programs._programs) == 2


def test_transforms_see_through():
    q = drawn()

    def loss(values):
        arr = q.with_values(values)
        return scree.varlen_attention(arr, arr, arr, causal=True).values.square().sum()

    loss(q.values)
    expected = torch.autograd.grad(loss(x := q.values.clone().requires_grad_()), x)[0]
    torch.testing.assert_close(torch.func.grad(loss)(q.values), expected)
