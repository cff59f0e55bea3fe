"""Cross-entropy by rows against PyTorch's own, row by row and on padded batches."""

import pytest
import torch
import torch.nn.functional as F

import scree_core as scree

LENGTHS = [4, 0, 1, 7, 2]
VOCAB = 13


def drawn(dtype=torch.float32, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(0)
    total = sum(lengths)
    logits = torch.randn(total, VOCAB, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(0, VOCAB, (total,), generator=generator)
    labels[torch.rand(total, generator=generator) < 0.2] = -100
    return logits, labels


def row_by_row(logits, labels, shift):
    """Return the losses of each row, by PyTorch."""
    for x, y in zip(logits.split(LENGTHS), labels.split(LENGTHS), strict=True):
        x, y = (x[:-1], y[1:]) if shift else (x, y)
        yield F.cross_entropy(x.float(), y, reduction="none"), y != -100


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_are_pytorchs_row_by_row(shift, dtype):
    logits, labels = drawn(dtype)
    rows = list(row_by_row(logits, labels, shift))
    expected = {
        "sum": sum(losses.sum() for losses, _ in rows),
        "token_mean": sum(losses.sum() for losses, _ in rows) / sum(counts.sum() for _, counts in rows),
        "row_mean_token_mean": torch.stack([losses[c].mean() for losses, c in rows if c.any()]).mean(),
        "row_sum": torch.stack([losses.sum() for losses, _ in rows]),
    }
    for reduction, own in expected.items():
        got = scree.varlen_cross_entropy(scree.from_lengths(logits, LENGTHS), labels, shift=shift, reduction=reduction)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, own)
        (d_got,), (d_own,) = (torch.autograd.grad(x.sin().sum(), logits, retain_graph=True) for x in (got, own))
        torch.testing.assert_close(d_got, d_own)


def test_it_is_the_shifted_loss_of_a_padded_batch():
    logits, labels = drawn()
    arr = scree.from_lengths(logits, LENGTHS)
    padded, _ = scree.to_padded(arr)
    targets, _ = scree.to_padded(scree.from_lengths(labels, LENGTHS), fill_value=-100)
    # What transformers computes: logits in float32, labels moved to the left and padded with -100.
    shifted = F.pad(targets, (0, 1), value=-100)[..., 1:]
    for num_items in (None, 30):
        if num_items is None:
            own = F.cross_entropy(padded.float().reshape(-1, VOCAB), shifted.reshape(-1), ignore_index=-100)
        else:
            own = F.cross_entropy(padded.reshape(-1, VOCAB), shifted.reshape(-1), reduction="sum") / num_items
        got = scree.varlen_cross_entropy(arr, labels, num_items=num_items)
        torch.testing.assert_close(got, own)
        (d_got,), (d_own,) = (torch.autograd.grad(x, logits, retain_graph=True) for x in (got, own))
        torch.testing.assert_close(d_got, d_own)


@pytest.mark.parametrize("reduction", ["token_mean", "row_mean_token_mean"])
def test_micro_batches_add_up_to_the_full_batch(reduction):
    lengths = [5, 17, 1, 40, 2, 9]
    logits, labels = drawn(lengths=lengths)
    arr, targets = scree.from_lengths(logits, lengths), scree.from_lengths(labels, lengths)
    full = scree.varlen_cross_entropy(arr, targets, reduction=reduction)
    losses = scree.varlen_cross_entropy(arr, targets, reduction="none")
    counted = losses.values if reduction == "token_mean" else scree.varlen_sum(losses)
    count = (counted > 0).sum()  # stays on its device
    rows = (slice(0, 1), slice(1, 4), slice(4, 6))
    parts = [scree.varlen_cross_entropy(arr[r], targets[r], reduction=reduction, num_items=count) for r in rows]
    torch.testing.assert_close(sum(parts), full, rtol=1e-6, atol=0)
    (d_parts,), (d_full,) = (torch.autograd.grad(x, logits, retain_graph=True) for x in (sum(parts), full))
    torch.testing.assert_close(d_parts, d_full, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shift", [True, False])
def test_a_poisoned_row_changes_no_loss_and_no_gradient_of_another(shift):
    logits, labels = drawn()
    clean = scree.varlen_cross_entropy(scree.from_lengths(logits, LENGTHS), labels, shift=shift, reduction="row_sum")
    (d_clean,) = torch.autograd.grad(clean.sum(), logits)
    poisoned = logits.detach().clone()
    poisoned[5:12] = torch.nan
    poisoned.requires_grad_()
    got = scree.varlen_cross_entropy(scree.from_lengths(poisoned, LENGTHS), labels, shift=shift, reduction="row_sum")
    (d_got,) = torch.autograd.grad(got.sum(), poisoned)
    assert got.isnan().tolist() == [False, False, False, True, False]
    others, rows = [*range(5), 12, 13], [0, 1, 2, 4]
    assert torch.equal(got[rows], clean[rows])
    assert torch.equal(d_got[others], d_clean[others])


def test_where_nothing_counts_not_even_nan_has_a_gradient():
    logits = torch.full((3, VOCAB), torch.nan, requires_grad=True)
    for labels in (torch.full((3,), -100), torch.tensor([5, -100, -100])):
        loss = scree.varlen_cross_entropy(scree.from_lengths(logits, [3]), labels)
        (d_logits,) = torch.autograd.grad(loss, logits)
        assert loss == 0
        assert torch.equal(d_logits, torch.zeros(3, VOCAB))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by torch.compile
def test_a_label_that_is_no_class_is_refused_or_gives_nan():
    logits, labels = drawn()
    labels[1] = VOCAB
    with pytest.raises(scree.ShapeError, match=rf"labels\[1\] is {VOCAB}, but logits of vocab {VOCAB}"):
        scree.varlen_cross_entropy(scree.from_lengths(logits, LENGTHS), labels)
    offsets = scree.from_lengths(logits, LENGTHS).offsets
    compiled = torch.compile(
        lambda x, y, o: scree.varlen_cross_entropy(scree.Array(x, o), y, reduction="none").values,
        fullgraph=True,
        backend="aot_eager",
    )
    losses = compiled(logits, labels, offsets)  # where the host sees no values
    (d_logits,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.isnan().nonzero().tolist() == [[0]]
    assert d_logits.isnan().all(1).nonzero().tolist() == [[0]]


def test_nothing_but_the_logits_is_kept_for_the_gradient():
    logits, labels = drawn(torch.bfloat16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        scree.varlen_cross_entropy(scree.from_lengths(logits, LENGTHS), labels)
    large = [x for x in kept if x.numel() >= logits.numel()]
    assert [x.data_ptr() for x in large] == [logits.data_ptr()]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by torch.compile
def test_compiled_gradients_are_fused_and_scatter_nothing():
    """A scatter would need an array in float32 that is as large as the logits."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    logits, labels = drawn(torch.bfloat16)
    offsets = scree.from_lengths(logits, LENGTHS).offsets
    called = []

    def note(graph, _):
        called.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return make_boxed_func(graph.forward)

    def fn(x, y, o):
        return scree.varlen_cross_entropy(scree.Array(x, o), y)

    compiled = torch.compile(fn, fullgraph=True, backend=aot_autograd(fw_compiler=note))
    results = [torch.autograd.grad(f(logits, labels, offsets), logits)[0] for f in (compiled, fn)]
    assert torch.equal(*results)
    _, backward = called
    assert not [name for name in backward if "scatter" in name]


def test_gradients_are_right_to_the_second_order():
    logits, labels = drawn(torch.float64)
    arr = scree.from_lengths(logits, LENGTHS)

    def fn(values):
        return scree.varlen_cross_entropy(arr.with_values(values), labels, reduction="row_sum")

    assert torch.autograd.gradcheck(fn, logits)
    assert torch.autograd.gradgradcheck(fn, logits)
