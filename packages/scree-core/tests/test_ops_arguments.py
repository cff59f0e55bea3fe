"""What the public ops make of their arguments before a backend sees them: defaults, canonical forms, refusals."""

import math

import numpy as np
import pytest

import scree_core as scree
from scree_core.explain import prepared
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend

REDUCTIONS = ["varlen_sum", "varlen_mean", "varlen_max", "varlen_min", "varlen_logsumexp"]


@pytest.fixture
def x():
    return scree.from_lengths(np.arange(12.0).reshape(6, 2), [1, 2, 3])


@pytest.fixture
def q():
    return scree.from_lengths(np.random.default_rng(0).standard_normal((6, 2, 4)), [1, 2, 3])


def same(a, b):
    np.testing.assert_array_equal(a.values, b.values)


# ------------------------------------------------------------------ every op


def calls(x, q):
    tables = np.ones((3, 1)), np.zeros((3, 1))
    more = {
        "repeat_rows": (np.zeros(3), x),
        "varlen_attention": (q, q, q),
        "varlen_cross_entropy": (x, np.zeros(x.total_length, np.int64)),
        "varlen_rope": (x, *tables),
    }
    return dict.fromkeys(scree.ops.__all__, (x,)) | more


@pytest.mark.parametrize("op", scree.ops.__all__)
def test_options_are_keyword_only(op, x, q):
    arrays = {"varlen_layernorm": 2, "varlen_rmsnorm": 1}.get(op, 0)  # weight and bias may follow x
    with pytest.raises(TypeError, match="positional"):
        getattr(scree, op)(*calls(x, q)[op], *[None] * arrays, "numpy")


@pytest.mark.parametrize("op", scree.ops.__all__)
@pytest.mark.parametrize("wrong", [None, [1.0], "x"])
def test_anything_but_an_array_says_how_to_make_one(op, wrong, x, q):
    args = [wrong if isinstance(arg, scree.Array) else arg for arg in calls(x, q)[op]]
    with pytest.raises(scree.ArgumentTypeError, match=r"must be a scree.Array, got .* scree.from_lengths"):
        getattr(scree, op)(*args)


@pytest.mark.parametrize("op", [op for op in scree.ops.__all__ if op not in REDUCTIONS])
def test_results_lie_as_the_input_does(op, x, q):
    options = {"reduction": "none"} if op == "varlen_cross_entropy" else {}  # by default a loss is one number
    assert getattr(scree, op)(*calls(x, q)[op], **options).layout in (x.layout, q.layout)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions_give_one_value_a_row(op, x):
    assert getattr(scree, op)(x).shape == (3, 2)
    moved = scree.from_lengths(x.values.T, [1, 2, 3], ragged_dim=1)
    np.testing.assert_array_equal(getattr(scree, op)(moved), getattr(scree, op)(x))


@pytest.mark.parametrize("dtype", ["complex128", "bool", "datetime64[s]"])
@pytest.mark.parametrize("op", ["varlen_softmax", "varlen_rmsnorm", "varlen_layernorm"])
def test_other_dtypes_are_told_how_to_cast(op, dtype, x):
    with pytest.raises(scree.ShapeError, match=rf'{op} needs floating-point x, got .*; use x.astype\("float32"\)'):
        getattr(scree, op)(x.astype(dtype))


# ------------------------------------------------------------------ attention


def test_defaults_are_filled_before_the_backend_sees_them(q):
    kwargs = prepared("varlen_attention", q, q, q).kwargs
    assert kwargs == {
        "causal": False,
        "scale": 0.5,
        "window": (-1, -1),
        "softcap": None,
        "sinks": None,
        "return_lse": False,
    }


def test_options_reach_the_backend_as_plain_python(q):
    options = {"causal": np.bool_(True), "scale": np.float32(2), "softcap": 3, "window": [np.int64(1), 2]}
    kwargs = prepared("varlen_attention", q, q, q, **options).kwargs
    got = [kwargs[name] for name in ("causal", "scale", "softcap")]
    assert [(type(value), value) for value in got] == [(bool, True), (float, 2.0), (float, 3.0)]
    assert kwargs["window"] == (1, 2)
    assert [type(bound) for bound in kwargs["window"]] == [int, int]


def test_lse_comes_only_if_asked_for(q):
    assert isinstance(scree.varlen_attention(q, q, q), scree.Array)
    out, lse = scree.varlen_attention(q, q, q, return_lse=True)
    assert out.layout is lse.layout is q.layout
    assert lse.values.shape == (6, 2)


def test_the_scale_may_be_zero(q):
    out = scree.varlen_attention(q, q, q, scale=0)
    np.testing.assert_allclose(out.values[3:], np.broadcast_to(q.values[3:].mean(0), (3, 2, 4)))


@pytest.mark.parametrize("bound", [10**6, 2**31 - 1, 2**31, 2**40, 2**63])
def test_windows_wider_than_any_row_hide_nothing(q, bound):
    same(scree.varlen_attention(q, q, q, window=(bound, bound)), scree.varlen_attention(q, q, q))


@pytest.mark.parametrize("window", [3, np.int64(3), (1,), (1, 2, 3), True])
def test_a_window_that_is_no_pair_is_refused(q, window):
    with pytest.raises(scree.ArgumentTypeError, match=r"window must be a pair \(left, right\), -1 for no bound"):
        scree.varlen_attention(q, q, q, window=window)


@pytest.mark.parametrize("window", ["ab", (1.5, 2), (None, 0)])
def test_window_bounds_that_are_no_integers_are_refused(q, window):
    with pytest.raises(scree.ArgumentTypeError, match="window"):
        scree.varlen_attention(q, q, q, window=window)


@pytest.mark.parametrize("scale", [math.inf, -math.inf, math.nan])
def test_a_scale_that_is_not_finite_is_refused(q, scale):
    with pytest.raises(scree.ArgumentError, match=f"scale must be finite, got {scale}"):
        scree.varlen_attention(q, q, q, scale=scale)


@pytest.mark.parametrize("softcap", [0, -1.0, math.inf, math.nan])
def test_a_softcap_that_is_not_positive_is_refused(q, softcap):
    with pytest.raises(
        scree.ArgumentError, match=f"softcap must be a positive number, or None for no cap, got {softcap}"
    ):
        scree.varlen_attention(q, q, q, softcap=softcap)


def test_dtypes_of_q_k_and_v_must_agree(q):
    with pytest.raises(scree.ShapeError, match="q, k and v need one dtype, got float64, float32 and float64"):
        scree.varlen_attention(q, q.astype("float32"), q)


def test_k_and_v_of_different_rows_are_told_where(q):
    v = scree.from_lengths(q.values, [2, 1, 3])
    with pytest.raises(scree.ShapeError, match=r"k and v need equal offsets, but they differ at offsets\[1\]"):
        scree.varlen_attention(q, q, v)


def test_no_heads_are_no_work(q):
    none = q.with_values(np.zeros((6, 0, 4)))
    assert scree.varlen_attention(none, q, q).values.shape == (6, 0, 4)


def test_sinks_in_a_list_are_refused(q):
    with pytest.raises(scree.ShapeError, match=r"sinks must have shape \(heads,\) = \(2,\)"):
        scree.varlen_attention(q, q, q, sinks=[0.0, 0.0])


# ------------------------------------------------------------------ rope


def test_a_loose_hint_does_not_make_tables_too_short():
    x = scree.Array(np.ones((6, 2)), np.array([0, 1, 3, 6]), max_length=100)
    tables = np.ones((3, 1)), np.zeros((3, 1))
    same(scree.varlen_rope(x, *tables), x)


@pytest.mark.parametrize(("bad", "at"), [(3, 4), (-1, 4)])
def test_positions_beyond_the_tables_are_named(x, bad, at):
    positions = np.array([0, 0, 1, 0, bad, bad])
    with pytest.raises(
        scree.ShapeError, match=rf"positions\[{at}\] is {bad}, but cos and sin hold the positions 0 to 2"
    ):
        scree.varlen_rope(x, np.ones((3, 1)), np.zeros((3, 1)), positions=positions)


def test_positions_of_other_rows_are_refused(x):
    positions = scree.from_lengths(np.zeros(6, int), [3, 2, 1])
    with pytest.raises(scree.ShapeError, match="x and positions need equal offsets"):
        scree.varlen_rope(x, np.ones((3, 1)), np.zeros((3, 1)), positions=positions)


def test_rope_needs_features():
    x = scree.from_lengths(np.zeros(3), [3])
    with pytest.raises(scree.ShapeError, match=r"varlen_rope needs values \(total, ..., head_dim\), got \(3,\)"):
        scree.varlen_rope(x, np.ones((3, 1)), np.zeros((3, 1)))


# ------------------------------------------------------------------ norms


@pytest.mark.parametrize("op", ["varlen_layernorm", "varlen_rmsnorm"])
def test_norms_refuse_a_weight_that_is_an_array_of_rows(op, x):
    with pytest.raises(scree.ShapeError, match=r"weight must have shape \(features,\) = \(2,\), got Array"):
        getattr(scree, op)(x, x)


@pytest.mark.parametrize("op", ["varlen_layernorm", "varlen_rmsnorm"])
@pytest.mark.parametrize("eps", [-1e-6, math.nan, math.inf])
def test_eps_must_be_finite_and_not_negative(op, x, eps):
    with pytest.raises(scree.ArgumentError, match=f"eps must be a finite number of 0 or more, got {eps}"):
        getattr(scree, op)(x, eps=eps)


# ------------------------------------------------------------------ reductions


@pytest.mark.parametrize(("op", "dtype"), [("varlen_max", "int8"), ("varlen_min", "uint8")])
@pytest.mark.parametrize("empty", [300, -129])
def test_an_empty_value_that_the_dtype_cannot_hold_is_refused(op, dtype, empty):
    arr = scree.from_lengths(np.zeros(2, dtype), [0, 2])
    with pytest.raises(scree.ArgumentError, match=f"empty={empty} can't be held by values of dtype {dtype}"):
        getattr(scree, op)(arr, empty=empty)


@pytest.mark.parametrize("empty", ["zero", None, True, [0], 1j, np.array([0.0, 1.0])])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_an_empty_value_of_another_kind_is_refused(op, x, empty):
    with pytest.raises(scree.ArgumentError, match='empty must be "identity", "nan", "error" or a number, got'):
        getattr(scree, op)(x, empty=empty)


@pytest.mark.parametrize(
    ("op", "identity"),
    [
        ("varlen_sum", 0),
        ("varlen_mean", 0),
        ("varlen_max", -np.inf),
        ("varlen_min", np.inf),
        ("varlen_logsumexp", -np.inf),
    ],
)
def test_empty_rows_give_the_identity_by_default(op, identity):
    arr = scree.from_lengths(np.ones(2), [0, 2])
    assert getattr(scree, op)(arr)[0] == identity
    assert getattr(scree, op)(arr, empty=np.float32(7))[0] == 7
    assert math.isnan(getattr(scree, op)(arr, empty="nan")[0])


def test_empty_rows_of_integers_give_the_ends_of_their_range():
    arr = scree.from_lengths(np.ones(2, np.int16), [0, 2])
    assert scree.varlen_max(arr)[0] == -(2**15)
    assert scree.varlen_min(arr)[0] == 2**15 - 1


def test_refusing_empty_rows_trusts_a_hint_without_reading_the_offsets():
    with scree.registry.installed_for(LoopbackArray, LoopbackBackend()):
        offsets = LoopbackArray(np.array([0, 0, 2]))
        hinted = scree.Array(LoopbackArray(np.ones(2)), offsets, min_length=1)
        prepared("varlen_sum", hinted, empty="error")
        with pytest.raises(scree.ShapeError, match="varlen_sum: row 0 is empty; choose what it gives"):
            prepared("varlen_sum", scree.Array(LoopbackArray(np.ones(2)), offsets), empty="error")


@pytest.mark.parametrize("dtype", ["complex128", "<U1"])
def test_values_that_are_no_numbers_are_not_told_to_become_integers(dtype, x):
    with pytest.raises(scree.ShapeError, match=f"varlen_sum can't take values of dtype {dtype}") as caught:
        scree.varlen_sum(x.astype(dtype))
    assert "integer" not in str(caught.value)


# ------------------------------------------------------------------ repeat_rows


@pytest.mark.parametrize("dense", [np.zeros(2), np.zeros((4, 3)), np.float64(1), [1, 2, 3]])
def test_one_value_for_each_row_is_needed(dense, x):
    with pytest.raises(scree.ShapeError, match=r"dense must have shape \(batch, ...\) with batch = 3, got"):
        scree.repeat_rows(dense, like=x)


def test_repeated_rows_have_the_ragged_axis_first():
    like = scree.from_lengths(np.zeros((2, 3)), [1, 2], ragged_dim=1)
    assert scree.repeat_rows(np.array([[1, 2], [3, 4]]), like).values.tolist() == [[1, 2], [3, 4], [3, 4]]
