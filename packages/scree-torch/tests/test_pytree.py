"""Arrays as pytrees of PyTorch, and what torch.func does with them."""

import pickle

import pytest
import torch
from torch.utils import _pytree as pytree

import scree
from scree_torch.pytree import LayoutContext, register


@pytest.fixture
def arr():
    return scree.from_lengths(torch.arange(10.0).reshape(5, 2), [2, 0, 3])


def test_values_and_offsets_are_the_leaves_with_their_names(arr):
    named, _ = pytree.tree_flatten_with_path(arr)
    assert [
        (pytree.keystr(path), leaf is expected)
        for (path, leaf), expected in zip(named, (arr.values, arr.offsets), strict=True)
    ] == [(".values", True), (".layout.offsets", True)]


def test_the_layout_comes_back_with_its_own_offsets(arr):
    arr.segment_ids  # noqa: B018, derived and kept
    one, two = pytree.tree_map(lambda x: x.double() if x.is_floating_point() else x, (arr, arr * 2))
    assert one.dtype == torch.float64
    assert one.layout is two.layout is arr.layout


def test_other_offsets_make_a_layout_that_knows_nothing_yet(arr):
    moved = pytree.tree_map(torch.clone, arr)
    assert moved.layout is not arr.layout
    assert moved.max_length is None
    assert torch.equal(moved.offsets, arr.offsets)
    assert scree.varlen_sum(moved).tolist() == scree.varlen_sum(arr).tolist()


def test_structure_is_the_same_for_all_lengths_but_not_for_other_kinds(arr):
    structure = pytree.tree_structure(arr)
    assert structure == pytree.tree_structure(scree.from_lengths(torch.ones(7), [7]))
    assert structure != pytree.tree_structure(scree.from_lengths(torch.ones(2, 7), [7], ragged_dim=1))
    assert structure != pytree.tree_structure(scree.bucket(arr))


def test_tails_come_back(arr):
    back = pytree.tree_map(torch.clone, scree.bucket(arr, multiple=8))
    assert back.layout.tail
    assert back.total_length == 8


def test_unflattening_checks_nothing(arr):
    structure = pytree.tree_structure(arr)
    assert pytree.tree_unflatten([None, "offsets"], structure).values is None


def test_structures_are_saved_without_the_layout(arr):
    structure = pytree.tree_structure(arr)
    assert pytree.treespec_loads(pytree.treespec_dumps(structure)) == structure
    context = LayoutContext(False, arr.layout)
    assert pickle.loads(pickle.dumps(context)) == context
    assert repr(context) == "LayoutContext(tail=False)"
    assert hash(context) == hash(LayoutContext(False))


def test_registering_twice_is_once():
    register()
    register()


# ---------------------------------------------------------------------- torch.func

OPS = {
    "varlen_softmax": lambda a: scree.varlen_softmax(a).values,
    "varlen_cumsum": lambda a: scree.varlen_cumsum(a).values,
    "varlen_sum": scree.varlen_sum,
    "varlen_mean": scree.varlen_mean,
    "varlen_max": lambda a: scree.varlen_max(a, empty=0),
    "varlen_logsumexp": lambda a: scree.varlen_logsumexp(a, empty=0),
    "varlen_rmsnorm": lambda a: scree.varlen_rmsnorm(a).values,
    "varlen_layernorm": lambda a: scree.varlen_layernorm(a).values,
    "varlen_rope": lambda a: scree.varlen_rope(a, TABLE.cos(), TABLE.sin()).values,
    "repeat_rows": lambda a: scree.repeat_rows(a.values[:3], like=a).values,
    "to_padded": lambda a: scree.to_padded(a)[0],
    "from_padded": lambda a: scree.from_padded(*scree.to_padded(a)).values,
    "varlen_attention": lambda a: scree.varlen_attention(a, a, a, causal=True).values,
    "varlen_attention, everything": lambda a: torch.cat(
        [
            part.values.flatten()
            for part in scree.varlen_attention(
                a, a.with_values(a.values[:, :1]), a.with_values(a.values[:, 1:]),
                window=(1, 1), softcap=2.0, sinks=a.values[0, :, 0], return_lse=True,
            )
        ]
    ),
}  # fmt: skip
TABLE = torch.linspace(0, 1, 3).unsqueeze(1)


@pytest.fixture
def three():
    generator = torch.Generator().manual_seed(0)
    layout = scree.from_lengths(torch.zeros(5), [2, 0, 3]).layout
    return torch.randn(3, 5, 2, 2, dtype=torch.float64, generator=generator), layout


@pytest.mark.parametrize("name", OPS)
def test_vmap_is_the_op_on_each(name, three):
    values, layout = three

    def fn(x):
        return OPS[name](scree.Array.trusted(x, layout))

    torch.testing.assert_close(torch.vmap(fn)(values), torch.stack([fn(x) for x in values]))
    torch.testing.assert_close(torch.vmap(fn, in_dims=-1)(values.movedim(0, -1)), torch.stack([fn(x) for x in values]))


@pytest.mark.parametrize("name", OPS)
def test_grad_and_vmap_nest(name, three):
    values, layout = three

    def loss(x):
        return OPS[name](scree.Array.trusted(x, layout)).sin().sum()

    grad = torch.func.grad(loss)
    expected = []
    for x in values:
        leaf = x.clone().requires_grad_()
        expected += torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.stack([grad(x) for x in values]), torch.stack(expected))
    torch.testing.assert_close(torch.vmap(grad)(values), torch.stack(expected))
    total = torch.func.grad(lambda x: torch.vmap(loss)(x).sum())
    torch.testing.assert_close(total(values), torch.stack(expected))


@pytest.mark.parametrize("name", OPS)
def test_first_and_second_derivatives_are_those_of_finite_differences(name, three):
    values, layout = three

    def fn(x):
        return OPS[name](scree.Array.trusted(x, layout))

    x = values[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(fn, x)
    assert torch.autograd.gradgradcheck(fn, x)


def test_vmap_over_an_array_maps_its_values(three):
    values, layout = three
    mapped = scree.Array.trusted(0, scree.Layout.trusted(None))
    total = torch.vmap(scree.varlen_sum, in_dims=(mapped,))(scree.Array.trusted(values, layout))
    torch.testing.assert_close(total, torch.stack([OPS["varlen_sum"](scree.Array.trusted(x, layout)) for x in values]))


def test_attention_says_that_it_can_not_be_mapped_over_offsets():
    x, offsets = torch.randn(2, 4, 1, 2), torch.tensor([[0, 1, 4], [0, 2, 4]])

    def attend(x, offsets):
        a = scree.Array(x, offsets)
        return scree.varlen_attention(a, a, a).values

    with pytest.raises(scree.UnsupportedError, match=r"vmapped over offsets; .*scree\.concat"):
        torch.vmap(attend)(x, offsets)
