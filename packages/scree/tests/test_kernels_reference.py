"""``scree.kernels.reference``: the contract's defaults under their compatibility names."""

import numpy as np
import pytest

import scree
from scree.kernels import reference
from scree_core.numpy_backend import NumpyBackend


@pytest.fixture
def qkv():
    rng = np.random.default_rng(0)
    q = scree.from_lengths(rng.standard_normal((9, 4, 8)), [3, 0, 6])
    return q, *(q.with_values(rng.standard_normal((9, 2, 8))) for _ in range(2))


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "scale": 0.3}])
def test_attention_is_that_of_scree(qkv, options):
    ours, theirs = reference.varlen_attention(*qkv, **options), scree.varlen_attention(*qkv, **options)
    assert np.allclose(ours.values, theirs.values, rtol=0, atol=1e-14)
    assert ours.layout is qkv[0].layout


def test_attention_takes_causal_and_scale_by_position(qkv):
    ours = reference.varlen_attention(*qkv, True, 0.3)
    assert np.array_equal(ours.values, reference.varlen_attention(*qkv, causal=True, scale=0.3).values)


def test_the_norms_and_softmax_are_those_of_scree():
    rng = np.random.default_rng(0)
    x = scree.from_lengths(rng.standard_normal((5, 8)), [3, 0, 2])
    weight, bias = rng.standard_normal((2, 8))
    for name, arguments in {
        "varlen_layernorm": (weight, bias),
        "varlen_rmsnorm": (weight,),
        "varlen_softmax": (),
    }.items():
        ours, theirs = getattr(reference, name)(x, *arguments), getattr(scree, name)(x, *arguments)
        assert np.allclose(ours.values, theirs.values, rtol=0, atol=1e-14), name
        assert ours.layout is x.layout, name


def test_eps_is_passed_on():
    x = scree.from_lengths(np.array([[3.0, 3.0]]), [1])
    assert np.allclose(reference.varlen_rmsnorm(x, eps=7.0).values, 0.75)
    assert np.allclose(
        reference.varlen_layernorm(x.with_values(np.array([[-3.0, 3.0]])), eps=7.0).values, [-0.75, 0.75]
    )


def test_a_ragged_axis_that_is_not_the_first_is_kept():
    x = scree.from_lengths(np.arange(12.0).reshape(2, 6), [2, 4], ragged_dim=1)
    ours = reference.varlen_softmax(x)
    assert ours.ragged_dim == 1
    assert np.allclose(ours.values, scree.varlen_softmax(x).values)


def test_it_is_the_reference_that_runs_and_no_faster_way(qkv, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the backend's own method ran")

    for op in ("varlen_attention", "varlen_softmax"):
        monkeypatch.setattr(NumpyBackend, op, refuse)
    reference.varlen_attention(*qkv)
    reference.varlen_softmax(qkv[0])


def test_differing_offsets_of_q_and_k_are_refused(qkv):
    q, k, v = qkv
    other = scree.from_lengths(k.values, [4, 0, 5])
    with pytest.raises(ValueError, match="identical offsets for q, k and v, but those of k differ"):
        reference.varlen_attention(q, other, v)
    with pytest.raises(scree.ShapeError, match="identical offsets for q, k and v, but those of v differ"):
        reference.varlen_attention(q, k, other)


def test_equal_offsets_in_two_objects_are_identical_enough(qkv):
    q, k, v = qkv
    copied = scree.from_cu_seqlens(k.values, q.offsets.copy())
    assert np.array_equal(reference.varlen_attention(q, copied, v).values, reference.varlen_attention(q, k, v).values)


def test_offsets_that_only_a_device_knows_are_read_and_compared(qkv, monkeypatch):
    monkeypatch.setattr(NumpyBackend, "host_offsets", lambda self, layout: layout.offsets)
    monkeypatch.setattr(scree.Layout, "same", lambda self, other: True if self is other else None)
    q, k, v = qkv
    copied = scree.from_cu_seqlens(k.values, q.offsets.copy())
    assert reference.varlen_attention(q, copied, v).layout is q.layout
    with pytest.raises(scree.ShapeError, match="identical offsets"):
        reference.varlen_attention(q, scree.from_lengths(k.values, [4, 0, 5]), v)


def test_raw_arrays_are_refused_with_the_way_to_wrap_them(qkv):
    with pytest.raises(scree.ArgumentTypeError, match=r"k must be a scree\.Array, got ndarray"):
        reference.varlen_attention(qkv[0], qkv[1].values, qkv[2])
    for name in ("varlen_layernorm", "varlen_rmsnorm", "varlen_softmax"):
        with pytest.raises(scree.ArgumentTypeError, match=r"x must be a scree\.Array, got ndarray"):
            getattr(reference, name)(np.zeros((3, 2)))


def test_a_chosen_backend_does_not_get_in_the_way(qkv, monkeypatch):
    from scree_core import dispatch

    monkeypatch.setattr(dispatch, "ENVIRONMENT", "no such backend")
    assert reference.varlen_softmax(qkv[0]).layout is qkv[0].layout
