"""Attention by the kernels, beyond the suite: random calls, odd memory, gradients of gradients, what is kept."""

import gc
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import scree_core as scree  # noqa: E402
from scree_core import programs  # noqa: E402
from scree_core.testing.budget import check  # noqa: E402
from scree_core.testing.case import Dense, Rows  # noqa: E402
from scree_core.testing.expected import as_numbers, reference_gradients, reference_outputs  # noqa: E402
from scree_core.testing.placing import rounded, widened  # noqa: E402
from scree_torch.convert import to_numpy  # noqa: E402
from scree_triton.attention import run  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy"),
]


def rows(lengths, *features, device, dtype=torch.float32, seed=0, **hints):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sum(lengths), *features, generator=generator).to(device, dtype)
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=device)
    return scree.Array(values, offsets, **hints)


def drawn(seed, most):
    """Draw a call of attention with every option now and then, rows of up to ``most``."""
    rng = np.random.default_rng(seed)
    batch, kv_heads, group = (int(x) for x in rng.integers(1, 5, 3))
    lengths = np.where(rng.random(batch) < 0.2, 0, rng.integers(1, most, batch))
    others = lengths if rng.random() < 0.5 else rng.integers(0, most, batch)
    head_dim, head_dim_v = (int(x) for x in rng.choice([4, 8, 20, 32, 40, 64, 72, 96, 128], 2))
    if rng.random() < 0.6:
        head_dim_v = head_dim
    window = tuple(int(x) for x in rng.integers(-1, 50, 2)) if rng.random() < 0.3 else None

    def values(lengths, heads, features):
        return Rows(rng.standard_normal((int(sum(lengths)), heads, features)), tuple(int(n) for n in lengths))

    arguments = {
        "q": values(lengths, kv_heads * group, head_dim),
        "k": values(others, kv_heads, head_dim),
        "v": values(others, kv_heads, head_dim_v),
        "causal": bool(rng.random() < 0.5),
        "scale": float(rng.choice([0.3, -0.2, 1.0, 0.0])) if rng.random() < 0.3 else None,
        "window": window,
        "softcap": float(rng.choice([2.0, 50.0])) if rng.random() < 0.2 else None,
        "return_lse": bool(rng.random() < 0.4),
    }
    if rng.random() < 0.3:
        arguments["sinks"] = Dense(rng.standard_normal(kv_heads * group))
    return arguments


def check_drawn(seed, dtype, device, most):
    """Check results and gradients of a drawn call against the reference."""
    given = rounded(drawn(seed, most), dtype)
    halves = getattr(torch, dtype)

    def placed(x):
        if not isinstance(x, (Rows, Dense)):
            return x
        tensor = torch.from_numpy(x.values.astype(np.float32)).to(device, halves).requires_grad_()
        if isinstance(x, Dense):
            return tensor
        offsets = np.concatenate([[0], np.cumsum(x.lengths)]).astype(np.int32)
        return scree.Array(tensor, torch.from_numpy(offsets).to(device))

    arguments = {name: placed(x) for name, x in given.items()}
    result = scree.varlen_attention(**arguments, backend="triton")
    outs = [x.values for x in (result if isinstance(result, tuple) else (result,))]
    rng = np.random.default_rng(seed)
    cotangents = [rng.standard_normal(tuple(out.shape)) for out in outs]
    upstream = [torch.from_numpy(c).to(out) for c, out in zip(cotangents, outs, strict=True)]
    learned = [arguments[name] for name in ("q", "k", "v", "sinks") if name in arguments]
    leaves = [x.values if isinstance(x, scree.Array) else x for x in learned]
    got = torch.autograd.grad(outs, leaves, upstream)
    exact_cotangents = [to_numpy(c).astype(np.float64) for c in upstream]
    truth, naive = reference_outputs("varlen_attention", widened(given)), reference_outputs("varlen_attention", given)
    for g, want, plain in zip(outs, truth, naive, strict=True):
        numbers = [to_numpy(g.detach()).astype(np.float64), as_numbers(plain).astype(np.float64), as_numbers(want)]
        check(*numbers, dtype, f"draw {seed}")
    exact = reference_gradients("varlen_attention", widened(given), exact_cotangents)
    plain_cotangents = [to_numpy(c) for c in upstream]
    rough = reference_gradients("varlen_attention", given, plain_cotangents)
    for g, want, plain in zip(got, exact, rough, strict=True):
        check(to_numpy(g).astype(np.float64), np.asarray(plain, np.float64), want, dtype, f"gradient of draw {seed}")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("seed", range(6))
def test_some_random_calls(seed, dtype, device):
    check_drawn(seed, dtype, device, most=90)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("part", range(10))
def test_random_calls_drawn_anew(part, dtype):
    """Ten at a time; the seed is in the failure's message."""
    start = np.random.SeedSequence().entropy % 2**40
    for seed in range(start, start + 10):
        check_drawn(seed, dtype, "cuda", most=400)


@pytest.mark.parametrize(("head_dim", "head_dim_v"), [(20, 8), (40, 4), (72, 20), (64, 16), (128, 32), (192, 128)])
def test_values_may_be_narrower_than_keys(head_dim, head_dim_v, device):
    """Of which a compiler made wrong code: ``variants._constants``."""
    q, k = (rows([150, 0, 70], 4, head_dim, device=device, dtype=torch.float16, seed=i) for i in range(2))
    v = rows([150, 0, 70], 4, head_dim_v, device=device, dtype=torch.float16, seed=2)
    leaves = [x.values.requires_grad_() for x in (q, k, v)]

    def gradients(backend, dtype):
        arrays = [x.with_values(leaf.to(dtype)) for x, leaf in zip((q, k, v), leaves, strict=True)]
        out = scree.varlen_attention(*arrays, causal=True, backend=backend).values.float()
        return out.detach(), *torch.autograd.grad(out.square().sum(), leaves)

    for got, want in zip(gradients("triton", torch.float16), gradients("torch", torch.float32), strict=True):
        torch.testing.assert_close(got.float(), want.float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("dtype", "heads", "options"),
    [
        ("float16", 2, {"causal": True}),
        ("bfloat16", 4, {}),
        ("float16", 4, {"causal": True, "window": (40, 0), "softcap": 4.0, "scale": -0.3}),
        ("float16", 2, {"sinks": True}),
    ],
)
def test_one_launch_for_both_kernels_of_backward_finds_what_two_do(monkeypatch, dtype, heads, options, device):
    from scree_triton.attention import backward

    dtype, options = getattr(torch, dtype), dict(options)
    q, g = (rows([0, 70, 1, 130], heads, 48, device=device, dtype=dtype, seed=i) for i in range(2))
    k, v = (rows([5, 70, 90, 129], 2, 48, device=device, dtype=dtype, seed=i) for i in range(2, 4))
    leaves = [x.values.requires_grad_() for x in (q, k, v)]
    if options.pop("sinks", False):
        options["sinks"] = torch.randn(heads, device=device, dtype=dtype).requires_grad_()
        leaves.append(options["sinks"])
    launches = []

    def gradients(few):
        monkeypatch.setattr(backward, "FEW", few)
        monkeypatch.setattr(run, "_plans", {})
        programs.forget()
        out = scree.varlen_attention(q, k, v, backend="triton", **options).values
        found = torch.autograd.grad(out, leaves, g.values)
        (plan,) = run._plans.values()
        launches.extend(plan.backward.values())
        return found

    for one, two in zip(gradients(10**6), gradients(0), strict=True):
        assert torch.equal(one, two)
    assert [each.keys is None for each in launches] == [True, False]


def test_a_sink_of_nothing_is_nothing(device):
    """Where no key is seen either, and two infinities would make NaN."""
    q, k = rows([3, 4], 2, 16, device=device), rows([2, 0], 2, 16, device=device, seed=1)
    sinks = torch.full((2,), -torch.inf, device=device)
    out, lse = scree.varlen_attention(q, k, k, sinks=sinks, causal=True, return_lse=True, backend="triton")
    want, want_lse = scree.varlen_attention(q, k, k, causal=True, return_lse=True, backend="torch")
    torch.testing.assert_close(out.values, want.values)
    torch.testing.assert_close(lse.values, want_lse.values)


def test_slices_of_a_fused_projection_are_taken_as_they_are(device):
    lengths, heads, head_dim = [5, 70, 0, 33], 2, 32
    fused = rows(lengths, 3, heads, head_dim, device=device, dtype=torch.float16)
    q, k, v = (fused.with_values(fused.values[:, i]) for i in range(3))
    same = [x.with_values(x.values.contiguous()) for x in (q, k, v)]
    by_heads = [x.with_values(x.values.permute(1, 0, 2).contiguous().permute(1, 0, 2)) for x in same]
    want = scree.varlen_attention(*same, causal=True, backend="triton").values
    assert torch.equal(scree.varlen_attention(q, k, v, causal=True, backend="triton").values, want)
    assert torch.equal(scree.varlen_attention(*by_heads, causal=True, backend="triton").values, want)


def test_memory_may_start_anywhere(device):
    x = rows([40, 3], 2, 32, device=device, dtype=torch.float16)
    raw = torch.empty(x.values.numel() + 8, device=device, dtype=torch.float16)
    want = scree.varlen_attention(x, x, x, backend="triton").values
    for shift in (1, 3, 8):
        moved = raw[shift : shift + x.values.numel()].view(x.values.shape).copy_(x.values)
        y = x.with_values(moved)
        assert torch.equal(scree.varlen_attention(y, y, y, backend="triton").values, want)
        assert torch.equal(scree.varlen_attention(x, y, x, backend="triton").values, want)


def test_a_sum_has_a_gradient_without_strides(device):
    x = rows([30, 5], 2, 16, device=device)
    values = x.values.requires_grad_()
    arr = x.with_values(values)
    (got,) = torch.autograd.grad(scree.varlen_attention(arr, arr, arr, backend="triton").values.sum(), values)
    (want,) = torch.autograd.grad(scree.varlen_attention(arr, arr, arr, backend="torch").values.sum(), values)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_gradients_are_the_same_in_every_run(device):
    x = rows([130, 1, 64], 4, 32, device=device, dtype=torch.bfloat16)
    values = x.values.requires_grad_()
    arr = x.with_values(values)

    def gradient():
        out = scree.varlen_attention(arr, arr, arr, causal=True, backend="triton").values
        return torch.autograd.grad(out.float().square().sum(), values)[0]

    assert torch.equal(gradient(), gradient())


@pytest.mark.parametrize("wanted", [("q",), ("k", "v"), ("sinks",)], ids=str)
def test_any_of_the_inputs_may_need_a_gradient(wanted, device):
    q, k, v = (rows([20, 9], 2, 16, device=device, seed=i) for i in range(3))
    given = {"q": q.values, "k": k.values, "v": v.values, "sinks": torch.zeros(2, device=device)}
    leaves = [given[name].requires_grad_() for name in wanted]

    def gradients(backend):
        arrays = [x.with_values(given[name]) for name, x in (("q", q), ("k", k), ("v", v))]
        out = scree.varlen_attention(*arrays, sinks=given["sinks"], causal=True, backend=backend).values
        return torch.autograd.grad(out.square().sum(), leaves)

    for got, want in zip(gradients("triton"), gradients("torch"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_gradients_have_gradients(device):
    x = rows([6, 4], 2, 8, device=device)
    values = x.values.requires_grad_()

    def second(backend):
        arr = x.with_values(values)
        out, lse = scree.varlen_attention(arr, arr, arr, causal=True, return_lse=True, backend=backend)
        loss = out.values.square().sum() + lse.values.square().sum()
        (first,) = torch.autograd.grad(loss, values, create_graph=True)
        return torch.autograd.grad(first.square().sum(), values)[0]

    torch.testing.assert_close(second("triton"), second("torch"), rtol=1e-3, atol=1e-4)


def test_nothing_outlives_its_array(device):
    """No cycle of references, which would keep maps of tiles in memory until Python's collector runs."""

    def attend(learn):
        values = torch.randn(8, 2, 16, device=device, requires_grad=learn)
        arr = scree.Array(values, torch.tensor([0, 3, 8], dtype=torch.int32, device=device))
        out = scree.varlen_attention(arr, arr, arr, backend="triton").values
        if learn:
            torch.autograd.grad(out.sum(), values)
        other = scree.Array(values, arr.offsets.clone())
        scree.varlen_attention(arr, other, other, backend="triton")
        return weakref.ref(arr.layout), weakref.ref(arr.offsets), weakref.ref(other.layout)

    gc.collect()
    gc.disable()
    try:
        assert [ref() for learn in (False, True) for ref in attend(learn)] == [None] * 6
    finally:
        gc.enable()


def test_a_layout_keeps_its_map(device, monkeypatch):
    from scree_triton.attention import batch, check

    monkeypatch.setattr(check, "WANTED", False)  # trials have maps of their own
    made = []
    monkeypatch.setattr(batch, "make_tiles", lambda *args, real=batch.make_tiles: made.append(args) or real(*args))
    arr = rows([30, 70], 2, 16, device=device)
    for _ in range(3):
        out = scree.varlen_attention(arr, arr, arr, causal=True, backend="triton")
        scree.varlen_attention(out, out, out, window=(3, 3), backend="triton")
    assert len({args[3] for args in made}) == len(made)
