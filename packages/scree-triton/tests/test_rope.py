"""The kernel of rotary position embedding, on a GPU or in Triton's interpreter."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from scree_core import reference  # noqa: E402
from scree_core.layout import Layout  # noqa: E402
from scree_core.testing.budget import check  # noqa: E402
from scree_core.testing.truth import as_dtype  # noqa: E402
from scree_torch.backend import TorchBackend  # noqa: E402
from scree_triton import rope  # noqa: E402
from scree_triton.launch import INTERPRETED  # noqa: E402
from scree_triton.rope import varlen_rope  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="needs a GPU, or TRITON_INTERPRET=1"),
    # The interpreter computes in NumPy, which warns of infinities and NaN.
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy"),
]
DTYPES = ("float32", "float16", "bfloat16")
MAX_POSITION = 64
LENGTHS = (3, 0, 37, 1)
TOTAL = sum(LENGTHS)
torch_backend = TorchBackend()


def place(a):
    return torch_backend.from_numpy(a).to(DEVICE)


def numbers(x):
    return torch_backend.to_numpy(x.detach().float().cpu()).astype(np.float64)


def layout_of(lengths, *, tail=0):
    offsets = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=DEVICE)
    return Layout.trusted(offsets, total=sum(lengths) + tail, tail=tail > 0)


def draw(*features, pairs, dtype="float32", total=TOTAL):
    """Return x, cosines, sines, and the gradient of the output, in NumPy."""
    rng = np.random.default_rng(0)
    angles = np.arange(MAX_POSITION)[:, None] * 10000.0 ** (-np.arange(pairs) / max(pairs, 1))
    x, d_out = (rng.standard_normal((total, *features)).astype(as_dtype(dtype)) for _ in range(2))
    return x, np.cos(angles).astype(as_dtype(dtype)), np.sin(angles).astype(as_dtype(dtype)), d_out


def check_all(given, dtype, *, positions=None, interleaved=False, moved=lambda x: x):
    """Check output and gradient against the reference."""
    x, cos, sin, d_out = given
    leaf = place(x).requires_grad_()
    at = None if positions is None else place(positions)
    out = varlen_rope(moved(leaf), place(cos), place(sin), at, layout_of(LENGTHS), interleaved=interleaved)
    (d_x,) = torch.autograd.grad(out, leaf, moved(place(d_out)))
    assert (out.dtype, d_x.dtype) == (leaf.dtype, leaf.dtype)
    if positions is None:
        positions = np.concatenate([np.arange(n) for n in LENGTHS])
    truth, naive = (
        (
            reference.varlen_rope(np, *arrays[:3], positions, interleaved=interleaved),
            reference.varlen_rope(np, arrays[3], arrays[1], -arrays[2], positions, interleaved=interleaved),
        )
        for arrays in ([a.astype(np.float64) for a in given], given)
    )
    for name, got, plain, want in zip(("out", "x"), (out, d_x), naive, truth, strict=True):
        check(numbers(got), np.asarray(plain, np.float64), want, dtype, f"rope {name}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])
@pytest.mark.parametrize(
    ("features", "pairs"),
    [((8,), 4), ((2, 8), 4), ((3, 7), 3), ((2, 3, 10), 5), ((4, 1), 0), ((2, 8), 1), ((5, 24), 6), ((1, 96), 48)],
)
def test_results_and_gradients_are_within_budget(features, pairs, interleaved, dtype):
    check_all(draw(*features, pairs=pairs, dtype=dtype), dtype, interleaved=interleaved)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.uint8])
def test_positions_may_be_given_in_any_integers(dtype):
    positions = np.random.default_rng(2).integers(0, MAX_POSITION, TOTAL).astype(dtype)
    check_all(draw(2, 8, pairs=4), "float32", positions=positions)


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])
def test_what_is_not_rotated_keeps_every_bit(interleaved):
    for dtype in DTYPES:
        x, cos, sin, _ = (place(a) for a in draw(3, 24, pairs=5, dtype=dtype))
        out = varlen_rope(x, cos, sin, None, layout_of(LENGTHS), interleaved=interleaved)
        assert torch.equal(out[..., 10:], x[..., 10:])


@pytest.mark.parametrize("name", ["heads", "features", "transposed", "middle", "one head"])
def test_values_may_lie_apart(name):
    moved = {
        "heads": lambda x: torch.cat([x, x.detach() + torch.nan], 1)[:, :2],
        "features": lambda x: torch.stack([x, x.detach() + torch.nan], -1)[..., 0],
        "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        "middle": lambda x: torch.cat([x, x.detach() + torch.nan], -1)[..., :8],
        "one head": lambda x: torch.stack([x, x.detach() + torch.nan], 2)[:, :, 0],
    }[name]
    check_all(draw(1 if name == "one head" else 2, 8, pairs=4), "float32", moved=moved)


def test_no_kernel_is_compiled_for_a_step_that_grows_with_the_elements():
    for total in (5, 9):
        x = torch.zeros(3, total, 8, device=DEVICE).transpose(0, 1)
        assert rope._heads_of(x)[1:] == (24, 8)
        assert rope._heads_of(x[:, :1])[1:] == (8, 8)


def test_tables_may_be_views():
    x, cos, sin, _ = (place(a) for a in draw(2, 8, pairs=4))
    expected = varlen_rope(x, cos, sin, None, layout_of(LENGTHS), interleaved=False)
    doubled = torch.cat([cos, cos + torch.nan], 1)[:, :4]
    apart = sin.T.contiguous().T
    assert torch.equal(varlen_rope(x, doubled, apart, None, layout_of(LENGTHS), interleaved=False), expected)


def test_tables_may_have_another_dtype():
    given = draw(2, 8, pairs=4, dtype="float16")[0], *draw(2, 8, pairs=4)[1:3]
    out = varlen_rope(*map(place, given), None, layout_of(LENGTHS), interleaved=False)
    positions = np.concatenate([np.arange(n) for n in LENGTHS])
    truth = reference.varlen_rope(np, *(a.astype(np.float64) for a in given), positions, interleaved=False)
    assert out.dtype == torch.float16
    check(numbers(out), truth, truth, "float16", "rope")


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])
def test_poisoned_rows_leak_nowhere(interleaved):
    x, cos, sin, _ = (place(a) for a in draw(3, 8, pairs=3))
    expected = varlen_rope(x, cos, sin, None, layout_of(LENGTHS), interleaved=interleaved)
    x[:3] = x[40:] = torch.nan
    out = varlen_rope(x, cos, sin, None, layout_of(LENGTHS), interleaved=interleaved)
    assert torch.equal(out[3:40], expected[3:40])


def test_a_tail_may_hold_any_position():
    lengths = (3, 2)
    x, cos, sin, d_out = (place(a) for a in draw(2, 8, pairs=4, total=9))
    positions = torch.tensor([0, 1, 2, 0, 1, -7, 10**6, 2, 2**31 - 1], device=DEVICE)
    results = []
    for at in (positions, None):
        for given in (cos, cos.clone().requires_grad_()):  # the kernel, then PyTorch
            leaf = x.clone().requires_grad_()
            out = varlen_rope(leaf, given, sin, at, layout_of(lengths, tail=4), interleaved=False)
            (d_x,) = torch.autograd.grad(out, leaf, d_out)
            results.append((out[:5], d_x[:5]))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_positions_beyond_the_tables_give_nan_and_read_nothing():
    x, cos, sin, _ = (place(a) for a in draw(2, 8, pairs=4))
    positions = torch.zeros(TOTAL, dtype=torch.int64, device=DEVICE)
    positions[5], positions[7], positions[9] = MAX_POSITION, -1, 2**40
    out = varlen_rope(x, cos, sin, positions, layout_of(LENGTHS), interleaved=False)
    assert out.isnan().flatten(1).all(1).nonzero().flatten().tolist() == [5, 7, 9]
    assert out.isnan().flatten(1).any(1).sum() == 3


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])
def test_tables_may_be_learned(interleaved):
    x, cos, sin, d_out = (place(a).requires_grad_() for a in draw(2, 8, pairs=3))
    results = []
    for positions in (None, torch.cat([torch.arange(n, device=DEVICE) for n in LENGTHS])):
        out = varlen_rope(x, cos, sin, positions, layout_of(LENGTHS), interleaved=interleaved)
        results.append(torch.autograd.grad(out, (x, cos, sin), d_out))
    expected = torch_backend.varlen_rope(x, cos, sin, layout_of(LENGTHS), None, interleaved=interleaved)
    results.append(torch.autograd.grad(expected, (x, cos, sin), d_out))
    torch.testing.assert_close(results[0], results[2])
    torch.testing.assert_close(results[1], results[2])


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])
def test_gradients_of_gradients_are_rotations_again(interleaved):
    x, cos, sin, d_out = (place(a) for a in draw(2, 8, pairs=4))
    x.requires_grad_()
    d_out.requires_grad_()
    out = varlen_rope(x, cos, sin, None, layout_of(LENGTHS), interleaved=interleaved)
    (d_x,) = torch.autograd.grad(out, x, d_out, create_graph=True)
    (again,) = torch.autograd.grad(d_x, d_out, x.detach())
    assert torch.equal(again, out)


@pytest.mark.parametrize("shape", [(0, 2, 8), (41, 0, 8), (41, 2, 0)])
def test_nothing_gives_nothing(shape):
    pairs = min(4, shape[-1] // 2)
    x, cos, sin, d_out = (place(a) for a in draw(*shape[1:], pairs=pairs, total=shape[0]))
    x.requires_grad_()
    lengths = LENGTHS if shape[0] else (0, 0)
    out = varlen_rope(x, cos, sin, None, layout_of(lengths), interleaved=False)
    assert out.shape == torch.autograd.grad(out, x, d_out)[0].shape == shape


def test_what_needs_no_gradient_keeps_nothing():
    x, cos, sin, _ = (place(a) for a in draw(2, 8, pairs=4))
    x.requires_grad_()
    with torch.no_grad():
        assert varlen_rope(x, cos, sin, None, layout_of(LENGTHS), interleaved=False).grad_fn is None
    assert varlen_rope(x.detach(), cos, sin, None, layout_of(LENGTHS), interleaved=False).grad_fn is None
    out = varlen_rope(x, cos, sin, None, layout_of(LENGTHS), interleaved=False)
    assert out.grad_fn.apply(None) == (None,) * 6
