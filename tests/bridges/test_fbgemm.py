"""FBGEMM's jagged operators take an Array's values and offsets as they are, and agree with scree about padding."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("fbgemm_gpu", reason="fbgemm-gpu-cpu isn't installed")

import scree  # noqa: E402

BATCHES = {"some": [2, 0, 5, 1], "one": [3], "empty": [0, 0], "full": [4, 4]}


def batch(lengths, dtype, offsets):
    values = torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    return scree.Array(values, scree.from_lengths(values, lengths).offsets.to(offsets))


@pytest.mark.parametrize("offsets", [torch.int32, torch.int64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("lengths", BATCHES.values(), ids=BATCHES)
def test_padding_agrees_and_its_inverse_too(lengths, dtype, offsets):
    arr = batch(lengths, dtype, offsets)
    width = max(1, arr.max_length)
    padded = torch.ops.fbgemm.jagged_to_padded_dense(arr.values, [arr.offsets], [width])
    wanted, mask = scree.to_padded(arr, max_length=width)
    assert torch.equal(padded, wanted)
    values, (same,) = torch.ops.fbgemm.dense_to_jagged(padded, [arr.offsets])
    assert torch.equal(values, scree.from_padded(padded, mask).values)
    back = scree.from_cu_seqlens(values, same)
    assert torch.equal(back.values, arr.values)
    assert torch.equal(back.offsets, arr.offsets)


def test_elements_without_features_agree():
    arr = scree.from_lengths(torch.arange(8.0), [2, 0, 5, 1])
    padded = torch.ops.fbgemm.jagged_to_padded_dense(arr.values, [arr.offsets], [arr.max_length])
    assert torch.equal(padded, scree.to_padded(arr)[0])


def test_another_fill_value_agrees():
    arr = batch([2, 0, 5], torch.float32, torch.int64)
    padded = torch.ops.fbgemm.jagged_to_padded_dense(arr.values, [arr.offsets], [6], -1.5)
    assert torch.equal(padded, scree.to_padded(arr, fill_value=-1.5, max_length=6)[0])


def test_offsets_from_lengths_agree():
    lengths = torch.tensor([2, 0, 5])
    offsets = torch.ops.fbgemm.asynchronous_complete_cumsum(lengths)
    assert torch.equal(offsets, scree.from_lengths(torch.ones(7), lengths).offsets.to(torch.int64))


def test_gradients_agree():
    arr = batch([2, 0, 5], torch.float32, torch.int64)
    weight = torch.randn(3, 5, 3)
    gradients = []
    for pad in (
        lambda a: torch.ops.fbgemm.jagged_to_padded_dense(a.values, [a.offsets], [5]),
        lambda a: scree.to_padded(a)[0],
    ):
        values = arr.values.clone().requires_grad_()
        (pad(arr.with_values(values)) * weight).sum().backward()
        gradients.append(values.grad)
    assert torch.equal(*gradients)
