"""Compiled functions of Arrays."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

import scree
import scree_mlx


@pytest.fixture
def arr():
    return scree.from_lengths(mx.arange(10.0).reshape(5, 2), [2, 0, 3])


def counted(fn):
    """Return a compiled function and the list that gets an entry for each compilation."""
    runs = []

    def traced(*args, **kwargs):
        runs.append(args)
        return fn(*args, **kwargs)

    return scree_mlx.compile(traced), runs


def test_result_is_on_the_layout_of_the_argument(arr):
    out = scree_mlx.compile(scree.varlen_softmax)(arr)
    assert out.layout is arr.layout
    np.testing.assert_allclose(out.values, scree.varlen_softmax(arr).values, rtol=1e-6)


def test_offsets_are_inputs(arr):
    compiled, runs = counted(scree.varlen_sum)
    assert compiled(arr).tolist() == [[2, 4], [0, 0], [18, 21]]
    other = scree.Array(arr.values, mx.array([0, 3, 3, 5]), max_length=3, min_length=0)
    assert compiled(other).tolist() == [[6, 9], [0, 0], [14, 16]]
    assert len(runs) == 1


def test_each_longest_row_is_compiled_for(arr):
    compiled, runs = counted(lambda x: scree.varlen_cumsum(x))
    for lengths in ([2, 0, 3], [3, 0, 2], [1, 1, 3], [5, 0, 0], [0, 3, 2]):
        x = scree.from_lengths(arr.values, lengths)
        np.testing.assert_allclose(compiled(x).values, scree.varlen_cumsum(x).values)
    assert len(runs) == 3  # rows of 3, all with elements, rows of 5


def test_bucketed_batches_compile_once():
    compiled, runs = counted(lambda x: scree.varlen_attention(x, x, x, causal=True))
    rng = np.random.default_rng(0)
    for _ in range(5):
        lengths = rng.integers(0, 20, 6)
        x = scree.from_lengths(mx.random.normal((int(lengths.sum()), 2, 4)), lengths)
        got = scree.unbucket(compiled(scree.bucket(x, max_length=32)), like=x)
        np.testing.assert_allclose(
            got.values, scree.varlen_attention(x, x, x, causal=True).values, rtol=1e-5, atol=1e-6
        )
    assert len(runs) == 1


def test_attention_without_a_bound_says_what_to_pass(arr):
    q = scree.Array(mx.zeros((5, 1, 2)), arr.offsets)
    with pytest.raises(scree.UnsupportedError, match="needs a bound of the row lengths: pass max_length"):
        scree_mlx.compile(lambda q: scree.varlen_attention(q, q, q))(q)


def test_layouts_shared_by_arguments_are_shared_inside(arr):
    compiled, _ = counted(lambda q, k: mx.array(q.layout is k.layout))
    assert compiled(arr, arr * 2).item()
    assert not compiled(arr, scree.from_lengths(arr.values, [2, 0, 3])).item()


def test_trees_and_constants_pass(arr):
    def fn(tree, *, scale, name=None):
        return {"out": [tree["x"] * scale, (name, tree["bias"] + 1, 3)]}

    out = scree_mlx.compile(fn)({"x": arr, "bias": mx.array(1.0)}, scale=2, name="n")
    assert out["out"][0].values.tolist() == (arr.values * 2).tolist()
    assert out["out"][0].layout is arr.layout
    assert out["out"][1][0] == "n"
    assert out["out"][1][1].item() == 2
    assert out["out"][1][2] == 3


def test_constants_are_compiled_for(arr):
    compiled, runs = counted(lambda x, flag: x * 2 if flag is True else x)
    assert compiled(arr, True).values.tolist() == (arr.values * 2).tolist()
    assert compiled(arr, 1).values.tolist() == arr.values.tolist()
    assert compiled(arr, True).values.tolist() == (arr.values * 2).tolist()
    assert len(runs) == 2


def test_results_of_earlier_shapes_keep_their_structure(arr):
    compiled = scree_mlx.compile(lambda x: [x] * x.total_length)
    short = arr[:1]
    assert [len(compiled(x)) for x in (arr, short, arr)] == [5, 2, 5]


def test_layouts_made_inside_come_out_with_values():
    padded, mask = mx.arange(6.0).reshape(2, 3), mx.array([[True, True, False], [False, False, True]])
    out = scree_mlx.compile(lambda p, m: scree.from_padded(p, m, capacity=4))(padded, mask)
    assert out.offsets.tolist() == [0, 2, 3]
    assert out.values.tolist() == [0, 1, 5, 0]
    assert out.layout.tail
    cut = scree_mlx.compile(lambda v: scree.from_lengths(v * 2, [1, 2]))(mx.ones(3))
    assert cut.layout.host.tolist() == [0, 1, 3]


def test_arrays_made_outside_may_be_closed_over(arr):
    out = scree_mlx.compile(lambda v: scree.varlen_cumsum(arr.with_values(v)))(arr.values)
    assert out.layout is arr.layout
    assert out.values.tolist() == scree.varlen_cumsum(arr).values.tolist()


def test_state_is_captured(arr):
    state = [mx.array(1.0)]

    def step(x):
        state[0] = state[0] + x.values.sum()
        return x

    compiled = scree_mlx.compile(step, inputs=state, outputs=state)
    compiled(arr)
    compiled(arr)
    assert state[0].item() == 91


def test_calls_with_nothing_in_them_are_not_compiled_where_that_crashes(monkeypatch):
    runs = []
    compiled = scree_mlx.compile(lambda x: runs.append(x.total_length) or 2 * x)
    for crashes in (False, True):
        monkeypatch.setattr("scree_mlx.compilation._would_crash", lambda arrays, answer=crashes: answer)
        for _ in range(2):
            empty = scree.from_lengths(mx.ones((0, 2)), [0, 0])
            assert compiled(empty).values.shape == (0, 2)
        assert runs == ([0, 0, 0] if crashes else [0])


def test_training_steps_compile(arr):
    weight = mx.array([[1.0], [2.0]])

    def loss(weight, x):
        return scree.varlen_mean(x.with_values(x.values @ weight)).square().sum()

    step = scree_mlx.compile(scree_mlx.value_and_grad(loss, argnums=(0, 1)))
    value, (by_weight, by_x) = step(weight, arr)
    expected, (expected_weight, expected_x) = scree_mlx.value_and_grad(loss, argnums=(0, 1))(weight, arr)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(by_weight, expected_weight, rtol=1e-6)
    np.testing.assert_allclose(by_x.values, expected_x.values, rtol=1e-6)
    assert by_x.layout is arr.layout


def test_compiled_functions_have_gradients(arr):
    compiled = scree_mlx.compile(lambda x: scree.varlen_softmax(x))

    def loss(fn, x):
        return (fn(x).values * mx.arange(10.0).reshape(5, 2)).sum()

    found = scree_mlx.grad(lambda x: loss(compiled, x))(arr)
    expected = scree_mlx.grad(lambda x: loss(scree.varlen_softmax, x))(arr)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


@dataclass
class Box:
    content: object


def test_other_objects_are_refused_both_ways(arr):
    with pytest.raises(scree.ArgumentTypeError, match="given was a Box"):
        scree_mlx.compile(lambda box: box.content)(Box(arr))
    with pytest.raises(scree.ArgumentTypeError, match="returned was a Box; close over it, or take it apart"):
        scree_mlx.compile(Box)(arr)


def test_bare_compile_takes_no_array(arr):
    with pytest.raises(ValueError, match="must be trees of arrays or constants"):
        mx.compile(scree.varlen_softmax)(arr)


def test_bare_compile_returns_dead_arrays(arr):
    # The trap that scree_mlx.compile is for; when MLX refuses at once, the documentation can say so.
    dead = mx.compile(lambda v: arr.with_values(v * 2))(arr.values)
    with pytest.raises(RuntimeError, match="without a primitive"):
        mx.eval(dead.values)
    with pytest.raises(scree.UnsupportedError, match=r"compile by scree_mlx\.compile"):
        dead.backend.to_numpy(dead.values)
