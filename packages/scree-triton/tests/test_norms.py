"""The kernels of layer and RMS normalisation, on a GPU or in Triton's interpreter."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from scree_core import reference  # noqa: E402
from scree_core.testing.budget import check  # noqa: E402
from scree_core.testing.truth import as_dtype  # noqa: E402
from scree_torch import norms as by_torch  # noqa: E402
from scree_torch.backend import TorchBackend  # noqa: E402
from scree_triton.launch import INTERPRETED  # noqa: E402
from scree_triton.norms import backward, forward, varlen_layernorm, varlen_rmsnorm  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="needs a GPU, or TRITON_INTERPRET=1"),
    # The interpreter computes in NumPy, which warns of infinities and NaN.
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy"),
]
DTYPES = ("float32", "float16", "bfloat16")
OPS = {"rmsnorm": (varlen_rmsnorm, ("weight",)), "layernorm": (varlen_layernorm, ("weight", "bias"))}
torch_arrays = TorchBackend()


def place(a):
    return torch_arrays.from_numpy(a).to(DEVICE)


def numbers(x):
    return torch_arrays.to_numpy(x.detach().float().cpu()).astype(np.float64)


def draw(op, shape, dtype, *, weights="the same", scale=1.0, seed=0):
    """Return x, weight, perhaps bias, and the gradient of the output, in NumPy."""
    rng = np.random.default_rng(seed)
    x, d_out = (rng.standard_normal(shape).astype(as_dtype(dtype)) for _ in range(2))
    affine = as_dtype(dtype if weights == "the same" else weights)
    return x * scale, *((1 + 0.5 * rng.standard_normal(shape[-1])).astype(affine) for _ in OPS[op][1]), d_out


def check_all(op, dtype, given, *, eps=1e-5, moved=lambda x: x, d_moved=lambda x: x):
    """Check the output and all gradients against the reference."""
    *inputs, d_out = given
    leaves = [place(a).requires_grad_() for a in inputs]
    out = OPS[op][0](moved(leaves[0]), *leaves[1:], eps=eps)
    got = out, *torch.autograd.grad(out, leaves, d_moved(place(d_out)))
    assert [g.dtype for g in got] == [leaves[0].dtype, *(leaf.dtype for leaf in leaves)]
    exact = [a.astype(np.float64) for a in given]
    truth, naive = (
        (
            getattr(reference, f"varlen_{op}")(np, *arrays[:-1], eps=np.float64(eps)),
            *getattr(reference, f"varlen_{op}_vjp")(np, arrays[-1], *arrays[:-1], eps=np.float64(eps)),
        )
        for arrays in (exact, given)
    )
    for name, g, plain, want in zip(("out", "x", "weight", "bias"), got, naive, truth, strict=False):
        check(numbers(g), np.asarray(plain, np.float64), want, dtype, f"{op} {name} {want.shape}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (300, 7), (3, 16), (70, 33), (40, 1000), (3, 2049), (2, 9000)])
@pytest.mark.parametrize("op", OPS)
def test_results_and_gradients_are_within_budget(op, shape, dtype):
    check_all(op, dtype, draw(op, shape, dtype))


@pytest.mark.parametrize(("rows", "dtype"), [(20, "float32"), (2, "float16"), (2, "bfloat16")])
@pytest.mark.parametrize("op", OPS)
def test_rows_too_wide_for_registers_go_block_by_block(op, rows, dtype):
    check_all(op, dtype, draw(op, (rows, 16400), dtype))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("dtype", "weights"), [("float16", "float32"), ("float32", "bfloat16")])
def test_weights_may_have_another_dtype(op, dtype, weights):
    given = draw(op, (9, 33), dtype, weights=weights)
    leaves = [place(a).requires_grad_() for a in given[:-1]]
    out = OPS[op][0](*leaves, eps=1e-5)
    got = torch.autograd.grad(out, leaves, place(given[-1]))
    expected = torch.autograd.grad(getattr(by_torch, f"varlen_{op}")(*leaves, eps=1e-5), leaves, place(given[-1]))
    assert out.dtype == leaves[0].dtype
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == e.dtype
        torch.testing.assert_close(g, e, rtol=2e-2 if g.dtype != torch.float32 else 1e-4, atol=2e-2)


@pytest.mark.parametrize("name", ["rows", "features", "axes", "heads"])
@pytest.mark.parametrize("op", OPS)
def test_values_and_cotangents_may_lie_apart(op, name):
    shape = (4, 6, 16) if name in ("axes", "heads") else (24, 16)
    apart = {
        "rows": lambda x: torch.cat([x, x.detach() + torch.nan], -1)[..., :16],
        "features": lambda x: torch.stack([x, x.detach() + torch.nan], -1)[..., 0],
        "axes": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        "heads": lambda x: torch.cat([x, x.detach() + torch.nan], 1)[:, :6],
    }[name]
    check_all(op, "float32", draw(op, shape, "float32"), moved=apart, d_moved=apart)


def test_the_gradient_of_a_sum_is_taken():
    x = place(draw("rmsnorm", (6, 16), "float32")[0]).requires_grad_()
    got = torch.autograd.grad(varlen_rmsnorm(x, None, eps=1e-5).sum(), x)[0]
    expected = torch.autograd.grad(by_torch.varlen_rmsnorm(x, None, eps=1e-5).sum(), x)[0]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("features", [16, 16400])
@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)]
)
def test_only_wanted_gradients_are_computed(wanted, features):
    given = draw("layernorm", (5, features), "float32")
    leaves = [place(a).requires_grad_(w) for a, w in zip(given, wanted, strict=False)]
    asked = [leaf for leaf, w in zip(leaves, wanted, strict=True) if w]
    got, expected = (
        torch.autograd.grad(norm(*leaves, eps=1e-5), asked, place(given[-1]))
        for norm in (varlen_layernorm, by_torch.varlen_layernorm)
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("affine", [(None, None), ("weight", None), (None, "bias")])
def test_weight_and_bias_are_optional(affine):
    x, *vectors, d_out = (place(a) for a in draw("layernorm", (5, 33), "float32"))
    x.requires_grad_()
    given = [None if name is None else v.requires_grad_() for name, v in zip(affine, vectors, strict=True)]
    asked = [t for t in (x, *given) if t is not None]
    results = []
    for norm in (varlen_layernorm, by_torch.varlen_layernorm):
        out = norm(x, *given, eps=1e-5)
        results.append((out, *torch.autograd.grad(out, asked, d_out)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", OPS)
def test_one_axis_is_one_row(op):
    x, *affine, _ = (place(a) for a in draw(op, (33,), "float32"))
    torch.testing.assert_close(OPS[op][0](x, *affine, eps=1e-5), OPS[op][0](x[None], *affine, eps=1e-5)[0])


@pytest.mark.parametrize(("features", "bad"), [(7, np.nan), (7, np.inf), (33, np.nan), (16400, np.nan)])
@pytest.mark.parametrize("op", OPS)
def test_poisoned_rows_leak_nowhere(op, features, bad):
    given = draw(op, (4, features), "float32")
    clean, poisoned = ([place(a).requires_grad_() for a in given[:-1]] for _ in range(2))
    d_clean, d_poisoned = place(given[-1]), place(given[-1])
    others = [0, 2, 3]
    with torch.no_grad():
        poisoned[0][others] = bad
        d_poisoned[others] = torch.nan
    results = []
    for leaves, d_out in ((clean, d_clean), (poisoned, d_poisoned)):
        out = OPS[op][0](*leaves, eps=1e-5)
        results.append((out[1], torch.autograd.grad(out, leaves[0], d_out)[0][1]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (2, 0, 8)])
@pytest.mark.parametrize("op", OPS)
def test_nothing_gives_nothing(op, shape):
    x, *affine, d_out = (place(a).requires_grad_() for a in draw(op, shape, "float32"))
    out = OPS[op][0](x, *affine, eps=1e-5)
    assert out.shape == shape
    d_x, *rest = torch.autograd.grad(out, (x, *affine), d_out.detach())
    assert d_x.shape == shape
    assert all((d == 0).all() for d in rest)


def test_one_feature_is_its_own_mean():
    x, weight, bias, d_out = (place(a).requires_grad_() for a in draw("layernorm", (9, 1), "float32", scale=1e3))
    out = varlen_layernorm(x, weight, bias, eps=1e-12)
    d_x, d_weight, _ = torch.autograd.grad(out, (x, weight, bias), d_out.detach())
    assert (out == bias).all()
    assert (d_x == 0).all()
    assert (d_weight == 0).all()


@pytest.mark.parametrize("op", OPS)
def test_zeros_without_eps_have_no_direction(op):
    out = OPS[op][0](torch.zeros(2, 8, device=DEVICE), None, *([None] if op == "layernorm" else []), eps=0.0)
    assert out.isnan().all()


@pytest.mark.parametrize("op", OPS)
def test_a_shifted_row_keeps_its_variance(op):
    x, *affine, d_out = draw(op, (5, 1000), "float32")
    check_all(op, "float32", (x + np.float32(1000), *affine, d_out))


@pytest.mark.parametrize("op", OPS)
def test_gradients_of_gradients_are_those_of_torch(op):
    given = [place(a).requires_grad_() for a in draw(op, (3, 8), "float32")]
    *leaves, d_out = given
    results = []
    for norm in (OPS[op][0], getattr(by_torch, f"varlen_{op}")):
        first = torch.autograd.grad(norm(*leaves, eps=1e-5), leaves, d_out, create_graph=True)
        results.append(torch.autograd.grad(sum((g**2).sum() for g in first), [leaves[0], d_out]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_what_needs_no_gradient_keeps_nothing():
    x, weight, _ = (place(a).requires_grad_() for a in draw("rmsnorm", (3, 8), "float32"))
    with torch.no_grad():
        assert varlen_rmsnorm(x, weight, eps=1e-5).grad_fn is None
    assert varlen_rmsnorm(x.detach(), None, eps=1e-5).grad_fn is None


def test_an_unused_output_has_no_gradient():
    x = place(draw("rmsnorm", (3, 8), "float32")[0]).requires_grad_()
    out = varlen_rmsnorm(x, None, eps=1e-5)
    assert out.grad_fn.apply(None) == (None,) * 5


def test_another_number_of_rows_compiles_nothing():
    x = place(draw("rmsnorm", (40, 24), "float32")[0])

    def run(rows):
        leaf = x[:rows].clone().requires_grad_()
        torch.autograd.grad(varlen_rmsnorm(leaf, None, eps=1e-5).sum(), leaf)
        return len(forward._variants), len(backward._kernels)

    assert run(7) == run(40) == run(1)


def test_memory_of_sums_is_for_programs_not_for_rows():
    tile = backward.backward_tile(4096)
    assert backward.backward_programs(tile, torch.device("cpu")) == 4
    assert tile.warps * 32 * 16 == 4096


def test_tiles_on_their_way_fit_into_shared_memory():
    device = torch.device("cpu")  # of which 64 KiB are assumed
    found = [backward.backward_stages(backward.backward_tile(n), 4, device) for n in (1024, 4096, 16384)]
    assert found == [3, 2, 1]
