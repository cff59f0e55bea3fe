"""The kernels of cross-entropy, on a GPU or in Triton's interpreter."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

import torch.nn.functional as F  # noqa: E402

import scree_core as scree  # noqa: E402
from scree_torch.backend import TorchBackend  # noqa: E402
from scree_triton import cross_entropy as module  # noqa: E402
from scree_triton.cross_entropy import varlen_cross_entropy  # noqa: E402
from scree_triton.launch import INTERPRETED, Variant  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="needs a GPU, or TRITON_INTERPRET=1"),
    # The interpreter computes in NumPy, which warns of infinities and NaN.
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy"),
]
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Of gradients: a few roundings of each dtype. Losses are float32 or wider, whatever the logits."""
torch_backend = TorchBackend()
nan, inf = float("nan"), float("inf")


def draw(total, vocab, dtype=torch.float32, *, scale=2.0, seed=0):
    """Return logits that require a gradient, and labels of which every third counts for nothing."""
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(total, vocab, generator=generator, dtype=torch.float64)).to(DEVICE, dtype)
    labels = torch.randint(0, vocab, (total,), generator=generator).to(DEVICE)
    labels[1::3] = -1
    return logits.requires_grad_(), labels


def step(op, logits, labels, seed=1):
    """Return losses and gradient, for a cotangent that is another one for each element."""
    losses = op(logits, labels)
    generator = torch.Generator().manual_seed(seed)
    d = torch.randn(losses.shape, generator=generator, dtype=torch.float64).to(losses.device, losses.dtype)
    return losses, *torch.autograd.grad(losses, logits, d)


def pytorchs(logits, labels):
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide, labels, reduction="none", ignore_index=-1)


def check(logits, labels, op=varlen_cross_entropy):
    (losses, d_logits), (wanted, d_wanted) = (step(f, logits, labels) for f in (op, pytorchs))
    assert (losses.dtype, d_logits.dtype) == (wanted.dtype, logits.dtype)
    exact = 1e-12 if losses.dtype == torch.float64 else 2e-6
    torch.testing.assert_close(losses, wanted, rtol=exact, atol=exact)
    tolerance = TOLERANCE[logits.dtype]
    torch.testing.assert_close(d_logits, d_wanted, rtol=tolerance, atol=min(tolerance, 1e-6))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("vocab", [1, 33, 300])
def test_losses_and_gradients_are_pytorchs(vocab, dtype):
    check(*draw(7, vocab, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("vocab", [64, 89])
def test_a_vocabulary_wider_than_a_tile_is_read_tile_by_tile(vocab, dtype, monkeypatch):
    for name in ("FORWARD", "BACKWARD"):
        monkeypatch.setattr(module, name, module.Tile(16, 4, 2))
    check(*draw(5, vocab, dtype, scale=30.0))


def test_few_classes_share_a_program_with_others():
    check(*draw(3 * module.MOST_ROWS + 5, 3))


@pytest.mark.parametrize(
    ("vocab", "rows", "parts"), [(1, 64, 1), (3, 64, 1), (1000, 4, 1), (4096, 1, 1), (4097, 1, 2), (151_936, 1, 38)]
)
def test_programs_have_a_tile_and_elements_of_many_classes_have_several(vocab, rows, parts):
    tile = module.Tile(4096, 8, 1)
    assert module._variant(module._forward_kernel, tile, {"VOCAB": vocab})[1:] == (rows, 1)
    assert module._variant(module._backward_kernel, tile, {"VOCAB": vocab})[1:] == (rows, parts)


def test_labels_may_be_int32_and_lie_apart():
    logits, labels = draw(7, 20)
    expected = step(varlen_cross_entropy, logits, labels)
    for given in (labels.int(), torch.stack([labels, labels - 9], 1)[:, 0]):
        assert all(torch.equal(a, b) for a, b in zip(step(varlen_cross_entropy, logits, given), expected, strict=True))


MOVED = {
    "a slice of classes": lambda x: torch.cat([x, x + nan], 1)[:, : x.shape[1]],
    "an odd beginning": lambda x: torch.cat([x[:1], x])[1:],
    "every other class": lambda x: torch.stack([x, x + nan], -1)[..., 0],
    "classes first": lambda x: x.T.contiguous().T,
    "one for all": lambda x: x[:1].expand(x.shape),
    "one element": lambda x: torch.cat([x, x + nan], 1)[:1, : x.shape[1]],
}


@pytest.mark.parametrize("name", MOVED)
def test_logits_may_lie_anyhow(name):
    leaf, labels = draw(7, 21)
    moved = MOVED[name](leaf)
    (losses, d), (wanted, d_wanted) = (
        step(op, leaf, labels[: len(moved)])
        for op in (lambda x, y: varlen_cross_entropy(MOVED[name](x), y), lambda x, y: pytorchs(MOVED[name](x), y))
    )
    torch.testing.assert_close(losses, wanted, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(d, d_wanted, rtol=2e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("size", [16, 4096])
def test_what_has_no_label_is_zero_and_what_has_no_loss_is_nan(size, monkeypatch):
    for name in ("FORWARD", "BACKWARD"):
        monkeypatch.setattr(module, name, module.Tile(size, 4, 1))
    logits, labels = draw(12, 40)
    labels[:] = torch.arange(12)
    x = logits.detach()
    labels[:4] = torch.tensor([-1, -100, -(2**40), -1])
    x[0], x[1], x[2, 5], x[3, 39] = nan, inf, -inf, inf
    labels[4:6] = torch.tensor([40, 2**40])  # no classes
    x[6, 39], x[7, 0], x[8, 20] = inf, nan, nan
    x[9] = -inf  # no class is possible
    x[10, 10] = x[10, 39] = -inf  # the label's isn't
    x[11, :39] = -inf  # one alone is, which isn't the label's
    results = [step(op, logits, labels) for op in (varlen_cross_entropy, torch_backend.varlen_cross_entropy)]
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=2e-6, atol=1e-6, equal_nan=True)
    losses, d_logits = results[0]
    assert losses[:4].tolist() == [0] * 4
    assert not d_logits[:4].any()
    assert losses[4:10].isnan().all()
    assert d_logits[4:10].isnan().all()
    assert losses[10:].tolist() == [inf, inf]


def test_where_nothing_counts_not_even_its_cotangent_does():
    logits, labels = draw(6, 9)
    losses = varlen_cross_entropy(logits, labels)
    (d,) = torch.autograd.grad(losses, logits, torch.where(labels < 0, nan, 1.0))
    assert not d[labels < 0].any()
    assert d.isfinite().all()


def test_cotangents_may_be_one_number_or_lie_apart():
    logits, labels = draw(6, 9)
    losses = varlen_cross_entropy(logits, labels)
    d = torch.arange(6.0, device=DEVICE)
    (wanted,) = torch.autograd.grad(losses, logits, d, retain_graph=True)
    known = len(module._variants)
    (got,) = torch.autograd.grad(losses, logits, torch.stack([d, d + nan], 1)[:, 0], retain_graph=True)
    assert torch.equal(got, wanted)
    assert len(module._variants) == known
    (got,) = torch.autograd.grad(losses.sum(), logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(losses, logits, torch.ones_like(d))
    assert torch.equal(got, wanted)


def test_gradients_are_right_to_the_second_order():
    logits, labels = draw(5, 6, torch.float64)
    assert torch.autograd.gradcheck(varlen_cross_entropy, (logits, labels))
    assert torch.autograd.gradgradcheck(varlen_cross_entropy, (logits, labels))


def test_no_elements_have_no_losses():
    logits = torch.empty(0, 5, device=DEVICE, requires_grad=True)
    losses, d = step(varlen_cross_entropy, logits, torch.empty(0, dtype=torch.int64, device=DEVICE))
    assert (losses.shape, d.shape) == ((0,), (0, 5))


def test_what_needs_no_gradient_keeps_nothing(monkeypatch):
    logits, labels = draw(4, 5)
    given, forward = [], module._forward
    monkeypatch.setattr(module, "_forward", lambda *arrays: given.append(arrays[2]) or forward(*arrays))
    with torch.no_grad():
        assert varlen_cross_entropy(logits, labels).grad_fn is None
    assert varlen_cross_entropy(logits.detach(), labels).grad_fn is None
    assert given == [None, None]
    assert varlen_cross_entropy(logits, labels).grad_fn.apply(None) == (None, None)


def test_what_is_kept_is_the_logits_and_little_more():
    logits, labels = draw(8, 500, torch.bfloat16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        varlen_cross_entropy(logits, labels)
    assert [x.data_ptr() for x in kept if x.numel() > 100] == [logits.data_ptr()]
    assert sum(x.nbytes for x in kept if x.numel() <= 100) <= 8 * (8 + 8)


def test_logits_that_are_changed_before_backward_are_noticed():
    logits, labels = draw(4, 5)
    x = logits * 1
    losses = varlen_cross_entropy(x, labels)
    x.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses.sum().backward()


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("reduction", ["none", "sum", "row_sum", "token_mean", "row_mean_token_mean"])
@pytest.mark.parametrize("lengths", [(3, 0, 1, 4), (0, 0), ()], ids=str)
def test_calls_by_name_are_pytorchs_backends_up_to_the_end_of_the_last_row(lengths, reduction, shift):
    live = sum(lengths)
    logits, labels = draw(live + 3, 12, torch.bfloat16)
    labels = torch.where(labels < 0, 7, labels).to(torch.int16)
    logits.detach()[live:] = nan
    offsets = torch.tensor([0, *torch.tensor(lengths, dtype=torch.int64).cumsum(0)], dtype=torch.int32, device=DEVICE)
    results = []
    for backend in ("triton", "torch"):
        arr = scree.Array(logits, offsets, tail=True)
        loss = scree.varlen_cross_entropy(
            arr, labels, shift=shift, reduction=reduction, ignore_index=7, backend=backend
        )
        loss = loss.values if reduction == "none" else loss
        results.append((loss, *torch.autograd.grad(loss.sum(), logits)))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=8e-3, atol=1e-6)
    assert not results[0][1][live:].any()


def test_a_step_is_one_launch_each_way(monkeypatch):
    launched, launch = [], Variant.__call__

    def note(variant, *arguments):
        launched.append(variant._kernel)
        launch(variant, *arguments)

    monkeypatch.setattr(Variant, "__call__", note)
    logits, labels = draw(4, 5)
    arr = scree.from_lengths(logits, [4])
    assert scree.explain("varlen_cross_entropy", arr, labels % 5, backend="triton").chosen == "torch.triton"
    scree.varlen_cross_entropy(arr, labels % 5, backend="triton").backward()
    assert launched == [module._forward_kernel, module._backward_kernel]
