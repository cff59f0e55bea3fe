"""What torch.compile traces already. Ops that go row by row break the graph until they have a fast path."""

import pytest
import torch

import scree

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own imports


@pytest.fixture(autouse=True)
def _fresh():
    scree.preload("torch")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


VALUES = torch.arange(20.0).reshape(5, 4)
OFFSETS = torch.tensor([0, 2, 2, 5], dtype=torch.int32)


def scaled(v, o):
    return scree.Array(v * 2, o, max_length=3)


def operators(v, o):
    arr = scree.Array(v, o)
    return (1 - arr * arr / (arr + 1)).values


def norm(v, o):
    return scree.varlen_rmsnorm(scree.Array(v, o)).values


def derived(v, o):
    arr = scree.Array(v, o)
    return arr.segment_ids, arr.positions, arr.lengths


def padded(v, o):
    return scree.to_padded(scree.Array(v, o), max_length=3, side="left")


def repeated(v, o):
    return scree.repeat_rows(v[:3], like=scree.Array(v, o)).values


@pytest.mark.parametrize("fn", [operators, norm, derived, padded, repeated], ids=lambda fn: fn.__name__)
def test_compiles_without_graph_break(fn):
    torch.testing.assert_close(
        torch.compile(fn, fullgraph=True, backend="aot_eager")(VALUES, OFFSETS), fn(VALUES, OFFSETS)
    )


def test_arrays_go_into_and_out_of_a_compiled_function():
    made = torch.compile(scaled, fullgraph=True, backend="eager")(VALUES, OFFSETS)
    assert isinstance(made, scree.Array)
    assert made.max_length == 3
    doubled = torch.compile(lambda arr: arr + arr, fullgraph=True, backend="eager")(made)
    assert torch.equal(doubled.values, VALUES * 4)
    assert doubled.layout is made.layout


def test_nothing_made_while_compiling_is_kept():
    arr = scree.Array(VALUES, OFFSETS)
    ids = torch.compile(lambda a: a.segment_ids * 1, fullgraph=True, backend="eager")(arr)
    assert not arr.layout._derived
    assert torch.equal(arr.segment_ids, ids)


def test_ops_that_read_row_boundaries_break_the_graph_and_still_work():
    def softmax(v, o):
        return scree.varlen_softmax(scree.Array(v, o)).values * 2

    torch.testing.assert_close(torch.compile(softmax, backend="eager")(VALUES, OFFSETS), softmax(VALUES, OFFSETS))
    torch.compiler.reset()
    with pytest.raises(Exception, match="reads row boundaries on the host"):
        torch.compile(softmax, fullgraph=True, backend="eager")(VALUES, OFFSETS)
