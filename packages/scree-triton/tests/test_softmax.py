"""The kernels of softmax, on a GPU or in Triton's interpreter."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from scree_core import reference  # noqa: E402
from scree_core.layout import Layout  # noqa: E402
from scree_core.testing.budget import check  # noqa: E402
from scree_core.testing.truth import as_dtype  # noqa: E402
from scree_torch.backend import TorchBackend  # noqa: E402
from scree_triton import softmax as module  # noqa: E402
from scree_triton.launch import INTERPRETED  # noqa: E402
from scree_triton.softmax import varlen_softmax  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="needs a GPU, or TRITON_INTERPRET=1"),
    # The interpreter computes in NumPy, which warns of infinities and NaN.
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy"),
]
DTYPES = ("float32", "float16", "bfloat16")
LENGTHS = {
    "mixed": (3, 1, 5),
    "empty rows": (0, 4, 0, 2, 0),
    "all empty": (0, 0),
    "no rows": (),
    "a long row": (1, 2, 300, 1),
}
torch_backend = TorchBackend()


def place(a):
    return torch_backend.from_numpy(a).to(DEVICE)


def numbers(x):
    return torch_backend.to_numpy(x.detach().float().cpu()).astype(np.float64)


def layout_of(lengths, *, offsets=torch.int32, max_length=None, tail=0):
    offsets = torch.tensor(np.cumsum([0, *lengths]), dtype=offsets, device=DEVICE)
    return Layout.trusted(offsets, total=sum(lengths) + tail, max_length=max_length, tail=tail > 0)


def check_all(lengths, x, dtype, *, moved=lambda x: x, **options):
    """Check output and gradient against the reference, up to the end of the last row."""
    d_out = np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
    live, offsets = sum(lengths), np.cumsum([0, *lengths])
    leaf = place(x).requires_grad_()
    out = varlen_softmax(moved(leaf), layout_of(lengths, tail=len(x) - live, **options))
    (d_x,) = torch.autograd.grad(out, leaf, moved(place(d_out)))
    assert (out.dtype, d_x.dtype) == (leaf.dtype, leaf.dtype)
    x, d_out = x[:live], d_out[:live]
    truth, naive = (
        (reference.varlen_softmax(np, x, offsets), *reference.varlen_softmax_vjp(np, d_out, x, offsets))
        for x, d_out in ((x.astype(np.float64), d_out.astype(np.float64)), (x, d_out))
    )
    for name, got, plain, want in zip(("out", "x"), (out, d_x), naive, truth, strict=True):
        check(numbers(got)[:live], np.asarray(plain, np.float64), want, dtype, f"softmax {name}")


def draw(lengths, *features, dtype="float32", scale=1.0, tail=0):
    rng = np.random.default_rng(0)
    return (scale * rng.standard_normal((sum(lengths) + tail, *features))).astype(as_dtype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [(), (3,), (2, 4), (33,), (0,)])
@pytest.mark.parametrize("name", LENGTHS)
def test_results_and_gradients_are_within_budget(name, features, dtype):
    check_all(LENGTHS[name], draw(LENGTHS[name], *features, dtype=dtype), dtype)


@pytest.mark.parametrize("features", [(), (3,), (40,)])
def test_short_rows_share_a_program(features, monkeypatch):
    monkeypatch.setattr(module, "MANY", 4)
    lengths = (*(i % 7 for i in range(70)), 30, 2)
    check_all(lengths, draw(lengths, *features), "float32")


@pytest.mark.parametrize("features", [(), (3,)])
@pytest.mark.parametrize("max_length", [None, 300, 100_000])
def test_what_the_host_knows_of_lengths_changes_only_the_tile(features, max_length):
    lengths = LENGTHS["a long row"]
    check_all(lengths, draw(lengths, *features), "float32", max_length=max_length)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [(), (3,)])
def test_rows_longer_than_a_tile_are_read_twice(features, dtype, monkeypatch):
    monkeypatch.setattr(module, "SMALL", 16)
    monkeypatch.setattr(module, "LARGE", 32)
    lengths = (200, 0, 1, 77, 16, 8)
    check_all(lengths, draw(lengths, *features, dtype=dtype, scale=20.0), dtype)


@pytest.mark.parametrize("tile", [(16, 32), (2048, 4096)], ids=["long", "short"])
@pytest.mark.parametrize("kind", ["-inf", "inf", "nan"])
def test_rows_of_infinities_and_nan(kind, tile, monkeypatch):
    monkeypatch.setattr(module, "SMALL", tile[0])
    monkeypatch.setattr(module, "LARGE", tile[1])
    lengths = (3, 60, 64, 2, 50)
    x = draw(lengths, 2)
    bad = np.float32(kind)
    x[1, 0] = bad  # one of a few
    x[3:63] = bad  # all of a row
    x[63:110, 1] = bad  # the first of a long one
    x[178, 0] = bad  # the last of a long one
    out = varlen_softmax(place(x), layout_of(lengths))
    expected = reference.varlen_softmax(np, x.astype(np.float64), np.cumsum([0, *lengths]))
    check(numbers(out), expected, expected, "float32", "softmax")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_poisoned_rows_leak_nowhere(bad):
    lengths = (3, 5, 2, 40, 2)
    clean = draw(lengths, 3)
    d_clean = draw(lengths, 3)
    poisoned, d_poisoned = clean.copy(), d_clean.copy()
    for a, filling in ((poisoned, bad), (d_poisoned, np.nan)):
        a[:3] = a[8:] = filling
    results = []
    for x, d_out in ((clean, d_clean), (poisoned, d_poisoned)):
        leaf = place(x).requires_grad_()
        out = varlen_softmax(leaf, layout_of(lengths))
        results.append((out[3:8], torch.autograd.grad(out, leaf, place(d_out))[0][3:8]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_tail_changes_nothing():
    lengths = (3, 0, 5)
    x = draw(lengths, 3, tail=4)
    x[8:] = np.nan
    check_all(lengths, x, "float32")


@pytest.mark.parametrize("apart", ["elements", "features", "transposed", "scalars"])
def test_values_may_lie_apart(apart):
    lengths = LENGTHS["mixed"]
    moved = {
        "elements": lambda x: torch.cat([x, x + torch.nan], 1)[:, :4],
        "features": lambda x: torch.stack([x, x + torch.nan], -1)[..., 0],
        "transposed": lambda x: x.T.contiguous().T,
        "scalars": lambda x: torch.stack([x, x + torch.nan], -1)[..., 0],
    }[apart]
    features = () if apart == "scalars" else (4,)
    check_all(lengths, draw(lengths, *features), "float32", moved=moved)


def test_the_gradient_of_a_sum_is_zero():
    lengths = LENGTHS["mixed"]
    x = place(draw(lengths, 3)).requires_grad_()
    (d_x,) = torch.autograd.grad(varlen_softmax(x, layout_of(lengths)).sum(), x)
    torch.testing.assert_close(d_x, torch.zeros_like(d_x), atol=1e-6, rtol=0)


def test_offsets_may_be_int64_and_lie_apart():
    lengths = LENGTHS["mixed"]
    check_all(lengths, draw(lengths, 3), "float32", offsets=torch.int64)
    x, layout = place(draw(lengths, 3)), layout_of(lengths)
    apart = Layout.trusted(torch.stack([layout.offsets, layout.offsets - 99], 1)[:, 0], total=sum(lengths))
    assert torch.equal(varlen_softmax(x, apart), varlen_softmax(x, layout))


@pytest.mark.parametrize("features", [(), (3,)])
def test_gradients_of_gradients_are_those_of_torch(features):
    lengths = LENGTHS["mixed"]
    x, d_out = (place(draw(lengths, *features)).requires_grad_() for _ in range(2))
    layout = layout_of(lengths)
    results = []
    for softmax in (varlen_softmax, torch_backend.varlen_softmax):
        (first,) = torch.autograd.grad(softmax(x, layout), x, d_out, create_graph=True)
        results.append((first, *torch.autograd.grad((first**2).sum(), (x, d_out))))
    torch.testing.assert_close(*results)


def test_what_needs_no_gradient_keeps_nothing():
    x, layout = place(draw((3, 2))).requires_grad_(), layout_of((3, 2))
    with torch.no_grad():
        assert varlen_softmax(x, layout).grad_fn is None
    assert varlen_softmax(x.detach(), layout).grad_fn is None
    assert varlen_softmax(x, layout).grad_fn.apply(None) == (None, None)


def test_short_rows_share_a_program_where_there_are_programs_enough():
    few, many = (module._tile_of(8 * batch, 1, layout_of([8] * batch)) for batch in (10, 100_000))
    assert (few.rows, few.length) == (1, 16)
    assert (many.rows, many.length) == (128, 16)


@pytest.mark.parametrize(("total", "features"), [(10, 1), (10**6, 1), (10**6, 3), (10**6, 1000), (100, 33), (5000, 16)])
def test_tiles_have_no_more_elements_than_fit(total, features):
    tile = module._tile_of(total, features, layout_of([total]))
    assert tile.rows * tile.length * tile.features <= (module.SMALL if tile.warps == 4 else module.LARGE)
    assert tile.features >= min(features, module.NEIGHBOURS)
