"""The kernels of padding, on a GPU or in Triton's interpreter: bits are moved, so results are equal."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from scree_core.layout import Layout  # noqa: E402
from scree_torch.backend import TorchBackend  # noqa: E402
from scree_triton.launch import INTERPRETED  # noqa: E402
from scree_triton.padding import from_padded, to_padded  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(), reason="needs a GPU, or TRITON_INTERPRET=1"
)
LENGTHS = {
    "mixed": (3, 1, 5),
    "empty rows": (0, 4, 0, 2, 0),
    "all empty": (0, 0),
    "no rows": (),
    "a long row": (1, 2, 300, 1),
}
DTYPES = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int64", "int32", "int16", "uint8", "bool")
torch_backend = TorchBackend()


def layout_of(lengths, *, offsets=torch.int32, tail=0):
    offsets = torch.tensor(np.cumsum([0, *lengths]), dtype=offsets, device=DEVICE)
    return Layout.trusted(offsets, total=sum(lengths) + tail, tail=tail > 0)


def draw(*shape, dtype="float32", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 100, shape, generator=generator).to(getattr(torch, dtype)).to(DEVICE)


def bits(x):
    return x.detach().reshape(-1).contiguous().view(torch.uint8).cpu()


def check_both(x, layout, width, *, fill_value=0, side="right"):
    """Check padding against PyTorch's backend, and that it is dropped again."""
    options = {"width": width, "side": side, "fill_value": fill_value}
    (padded, mask), (wanted, marks) = (f(x, layout, **options) for f in (to_padded, torch_backend.to_padded))
    assert (padded.dtype, padded.shape) == (wanted.dtype, wanted.shape)
    assert torch.equal(bits(padded), bits(wanted))
    assert mask.dtype == torch.bool
    assert torch.equal(mask, marks)
    again, found = from_padded(padded, mask, capacity=None)
    live = int(layout.offsets[-1])
    assert torch.equal(bits(again), bits(x[:live]))
    assert found.offsets.tolist() == layout.offsets.tolist()
    assert found.total == live
    lengths = np.diff(layout.offsets.cpu())
    assert (found.max_length, found.min_length) == (lengths.max(initial=0), lengths.min() if lengths.size else 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [(), (3,), (2, 4), (33,), (0,), (600,)])
def test_every_dtype_comes_back_as_it_was(features, dtype):
    check_both(draw(9, *features, dtype=dtype), layout_of((3, 1, 5)), 5, fill_value=1)


@pytest.mark.parametrize("offsets", [torch.int32, torch.int64])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("wider", [0, 3])
@pytest.mark.parametrize("name", LENGTHS)
def test_rows_of_any_lengths(name, wider, side, offsets):
    lengths = LENGTHS[name]
    check_both(draw(sum(lengths), 5), layout_of(lengths, offsets=offsets), max(lengths, default=0) + wider, side=side)


@pytest.mark.parametrize("fill_value", [-0.0, float("nan"), float("-inf"), 2.5, -1])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_padding_holds_the_fill_value(fill_value, dtype):
    check_both(draw(9, 3, dtype=dtype), layout_of((3, 1, 5)), 6, fill_value=fill_value)


@pytest.mark.parametrize(("dtype", "fill_value"), [("int64", -7), ("uint8", 255), ("bool", True), ("int16", -2)])
def test_padding_holds_integers(dtype, fill_value):
    check_both(draw(9, 3, dtype=dtype), layout_of((3, 1, 5)), 6, fill_value=fill_value)


MOVED = {
    "a slice of features": lambda x: x[:, :, 1:3],
    "an odd beginning": lambda x: x[1:],
    "heads first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "features last to first": lambda x: x.transpose(1, 2),
    "one for all": lambda x: x[:1].expand(9, -1, -1),
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("name", MOVED)
def test_values_may_lie_anyhow(name, dtype):
    x = MOVED[name](draw(10, 4, 6, dtype=dtype))[:9]
    check_both(x, layout_of((3, 1, 5)), 6)
    padded = MOVED[name](draw(10, 4, 6, dtype=dtype).repeat(2, 1, 1))[:9].unflatten(0, (3, 3))
    mask = torch.tensor([[True, False, True], [False] * 3, [True] * 3], device=DEVICE)
    values, _ = from_padded(padded, mask, capacity=None)
    assert torch.equal(values, padded[mask])


def test_any_mask_is_followed():
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(17, 50, generator=generator) < 0.4).to(DEVICE)
    padded = draw(17, 50, 7)
    values, layout = from_padded(padded, mask.t().contiguous().t(), capacity=None)
    assert torch.equal(values, padded[mask])
    assert layout.offsets.tolist() == [0, *mask.sum(1).cumsum(0).tolist()]
    assert layout.offsets.dtype == torch.int32


def gradients(op, leaf, *rest, **options):
    """Return an op's output, its gradient, and that gradient's own."""
    out, _ = op(leaf, *rest, **options)
    d_out = draw(*out.shape, seed=1).requires_grad_()
    (first,) = torch.autograd.grad(out, leaf, d_out, create_graph=True)
    (second,) = torch.autograd.grad(first, d_out, draw(*first.shape, seed=2))
    return out, first, second


@pytest.mark.parametrize("tail", [0, 4])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", LENGTHS)
def test_gradients_of_padding_are_those_of_torch(name, side, tail):
    lengths = LENGTHS[name]
    leaf = draw(sum(lengths) + tail, 5).requires_grad_()
    options = {"width": max(lengths, default=0) + 2, "side": side, "fill_value": 7.0}
    layout = layout_of(lengths, tail=tail)
    got, wanted = (gradients(op, leaf, layout, **options) for op in (to_padded, torch_backend.to_padded))
    assert all(torch.equal(g, w) for g, w in zip(got, wanted, strict=True))


@pytest.mark.parametrize("marked", [0.0, 0.4, 1.0])
def test_gradients_of_dropping_it_are_those_of_torch(marked):
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(6, 9, generator=generator) < marked).to(DEVICE)
    leaf = draw(6, 9, 3).requires_grad_()
    got, wanted = (gradients(op, leaf, mask, capacity=None) for op in (from_padded, torch_backend.from_padded))
    assert all(torch.equal(g, w) for g, w in zip(got, wanted, strict=True))


@pytest.mark.skipif(INTERPRETED, reason="a mask in the host's memory is PyTorch's, which looks whether it fits")
@pytest.mark.parametrize("capacity", [54, 40])
def test_room_is_filled_with_zeros_and_what_does_not_fit_is_left(capacity):
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(6, 9, generator=generator) < 0.4).to(DEVICE)
    leaf = draw(6, 9, 3).requires_grad_()
    got, wanted = (gradients(op, leaf, mask, capacity=capacity) for op in (from_padded, torch_backend.from_padded))
    assert all(torch.equal(g, w) for g, w in zip(got, wanted, strict=True))
    few, layout = from_padded(leaf, mask, capacity=3)
    assert torch.equal(few, leaf[mask][:3])
    assert layout.tail
