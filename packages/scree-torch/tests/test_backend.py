"""What the backend says of tensors, and what it keeps."""

import operator
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import scree
from scree_torch.backend import TorchBackend

backend = TorchBackend()


@pytest.fixture
def arr():
    return scree.Array(torch.arange(10.0).reshape(5, 2), torch.tensor([0, 2, 2, 5], dtype=torch.int32))


def test_import_of_the_package_imports_no_torch():
    code = "import sys, scree_torch; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_backend_is_found_by_its_entry_point(arr):
    assert arr.backend.name == "torch"
    assert type(arr.backend) is TorchBackend


# ---------------------------------------------------------------------- types


def test_parameters_and_other_subclasses_are_tensors(arr):
    class Weight(torch.nn.Parameter):
        pass

    for weight in (torch.nn.Parameter(torch.ones(2)), Weight(torch.ones(2))):
        out = scree.varlen_rmsnorm(arr, weight)
        assert out.values.requires_grad
        own = scree.Array(weight, torch.tensor([0, 2]))
        assert own.backend is arr.backend
        assert own.values is weight


OPERATORS = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge", "eq", "ne"]


@pytest.mark.parametrize("name", OPERATORS)
def test_tensors_on_the_left_of_an_operator_give_an_array(arr, name):
    op = getattr(operator, name)
    dense = torch.tensor([3.0, 4.0])
    out = op(dense, arr)
    assert out.layout is arr.layout
    torch.testing.assert_close(out.values, op(dense, arr.values), equal_nan=True)


@pytest.mark.parametrize("name", ["and_", "or_", "xor"])
def test_bool_tensors_on_the_left_of_an_operator_give_an_array(arr, name):
    op, mask = getattr(operator, name), arr > 3
    dense = torch.tensor([True, False])
    assert torch.equal(op(dense, mask).values, op(dense, mask.values))


def test_arrays_survive_pickling(arr):
    back = pickle.loads(pickle.dumps(arr))
    assert torch.equal(back.values, arr.values)
    assert torch.equal(back.offsets, arr.offsets)
    assert back.offsets.dtype == torch.int32


# ---------------------------------------------------------------------- the host's view


def test_cpu_offsets_are_read_in_place(arr):
    assert np.shares_memory(arr.layout.host, arr.offsets.numpy())
    assert arr.max_length == 3


def test_broken_cpu_offsets_are_refused_at_construction():
    with pytest.raises(scree.ShapeError, match="non-decreasing"):
        scree.Array(torch.zeros(2), torch.tensor([0, 3, 2]))


def test_a_tensor_that_needs_grad_is_viewed_detached():
    x = torch.ones(2, requires_grad=True)
    assert np.shares_memory(backend.host_view(x), x.detach().numpy())


def unreal_tensors():
    with FakeTensorMode() as mode:
        fake = torch.zeros(3, dtype=torch.int32)
    yield "meta", torch.zeros(3, device="meta")
    yield "fake", fake
    yield "fake of a real one", mode.from_tensor(torch.zeros(3))
    yield "sparse", torch.zeros(3).to_sparse()


@pytest.mark.parametrize("x", [pytest.param(x, id=name) for name, x in unreal_tensors()])
def test_what_has_no_values_in_host_memory_has_no_host_view(x):
    assert backend.host_view(x) is None


@pytest.mark.parametrize("transform", [torch.func.grad, lambda f: torch.vmap(f, in_dims=0)])
def test_nothing_is_viewed_or_kept_inside_a_transform(arr, transform):
    seen = []

    def f(x):
        seen.append((backend.host_view(arr.offsets), backend.may_cache(arr.offsets)))
        return (x * arr.with_values(arr.values).segment_ids.sum()).sum()

    transform(f)(torch.ones(3))
    assert seen == [(None, False)]
    assert not arr.layout._derived
    assert arr.segment_ids.tolist() == [0, 0, 2, 2, 2]


def test_nothing_is_kept_under_a_dispatch_mode(arr):
    def f(x):
        assert not backend.may_cache(arr.offsets)
        return x * 2

    make_fx(f, tracing_mode="fake")(torch.ones(3))
    assert backend.may_cache(arr.offsets)


def test_what_inference_mode_derives_can_be_saved_for_backward(arr):
    with torch.inference_mode():
        ids = arr.segment_ids
    assert not ids.is_inference()
    dense = torch.ones(3, requires_grad=True)
    scree.repeat_rows(dense, like=arr).values.sum().backward()
    assert dense.grad.tolist() == [2, 0, 3]


# ---------------------------------------------------------------------- the rest


def test_dtypes_have_their_numpy_names():
    for name in ("float64", "float16", "bfloat16", "int32", "uint8", "bool"):
        assert backend.dtype_name(torch.zeros(1, dtype=backend.dtype(name))) == name


def test_from_numpy_goes_to_the_device_of_like():
    assert backend.from_numpy(np.zeros(2), like=torch.empty(0, device="meta")).device.type == "meta"
    arr = scree.from_lengths(torch.empty(3, device="meta"), [1, 2])
    assert arr.offsets.device.type == "meta"
    assert arr.max_length == 2


def test_device_and_version_are_those_of_torch(arr):
    assert arr.device == "cpu"
    assert backend.version() == torch.__version__
    backend.synchronize((arr.values, None))


def test_nbytes_counts_values_and_offsets(arr):
    assert arr.nbytes == 10 * 4 + 4 * 4


# ---------------------------------------------------------------------- gradients


def test_vjp_gives_zeros_for_unused_and_integer_inputs():
    x, unused, index = torch.arange(3.0), torch.ones(2, 2), torch.tensor([2, 0])
    grads = backend.vjp(lambda x, unused, index: (x[index] * 2, index), (x, unused, index), (torch.ones(2), index))
    assert [g.tolist() for g in grads] == [[2, 0, 2], [[0, 0], [0, 0]], [0, 0]]
    assert not x.requires_grad


def test_vjp_works_under_no_grad_and_without_any_dependence():
    with torch.no_grad():
        (grad,) = backend.vjp(lambda x: (x * x,), (torch.tensor([3.0]),), (torch.tensor([1.0]),))
        (none,) = backend.vjp(lambda x: (torch.ones(1),), (torch.tensor([3.0]),), (torch.tensor([1.0]),))
    assert grad.tolist() == [6]
    assert none.tolist() == [0]


def test_vjp_takes_one_tensor_twice():
    x = torch.tensor([3.0])
    assert [g.tolist() for g in backend.vjp(lambda a, b: (a * a * b,), (x, x), (torch.ones(1),))] == [[18], [9]]


def test_gradients_flow_through_padding_and_back(arr):
    values = arr.values.clone().requires_grad_()
    padded, mask = scree.to_padded(arr.with_values(values), fill_value=5)
    back = scree.from_padded(padded, mask)
    assert torch.equal(back.values, arr.values)
    (grad,) = torch.autograd.grad((back.values * 3).sum() + padded.sum(), values)
    assert (grad == 4).all()


def test_attention_has_second_derivatives():
    arr = scree.from_lengths(
        torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), [1, 2]
    )

    def attention(q, k, v):
        out, lse = scree.varlen_attention(*map(arr.with_values, (q, k, v)), causal=True, return_lse=True)
        return out.values, lse.values

    inputs = tuple((arr.values * (i + 1)).requires_grad_() for i in range(3))
    assert torch.autograd.gradcheck(attention, inputs)
    assert torch.autograd.gradgradcheck(attention, inputs)


def test_attention_works_inside_grad_transforms():
    arr = scree.from_lengths(torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0)), [1, 2])

    def loss(q):
        return scree.varlen_attention(arr.with_values(q), arr, arr).values.square().sum()

    (expected,) = backend.vjp(lambda q: (loss(q),), (arr.values,), (torch.tensor(1.0),))
    torch.testing.assert_close(torch.func.grad(loss)(arr.values), expected)


# ---------------------------------------------------------------------- integers torch can't compare


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_extremes_of_wide_unsigned_integers(dtype):
    top = np.iinfo(str(dtype).split(".")[-1]).max
    host = np.array([1, top, top - 1, 0, 5], np.uint64).astype(str(dtype).split(".")[-1])
    arr = scree.from_lengths(torch.from_numpy(host), [2, 0, 3])
    assert scree.varlen_max(arr).dtype == dtype
    assert scree.varlen_max(arr).tolist() == [top, 0, top - 1]
    assert scree.varlen_min(arr).tolist() == [1, top, 0]
    assert scree.varlen_max(arr, empty=3).tolist() == [top, 3, top - 1]
