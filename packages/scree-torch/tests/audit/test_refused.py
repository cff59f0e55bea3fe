"""What an audit leaves as it was, and what it refuses."""

import pytest
import torch
from torch import nn

import scree
from scree_core.errors import ArgumentError, ArgumentTypeError, BackendNotInstalledError, ShapeError, UnsupportedError
from scree_torch.audit import leaks

from .models import BATCH, LENGTHS, ROWS, Model, ids_of


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    model[0].weight.grad = torch.ones(4, 4)
    model[0].bias.requires_grad_(False)
    x = torch.randn(3, 4)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random, copy = torch.get_rng_state(), x.clone()
    model.register_forward_hook(lambda *_: torch.rand(1) and None)  # a model may draw numbers that change nothing
    leaks(model, x)
    model._forward_hooks.clear()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert (model[0].weight.grad == 1).all()
    assert model[1].weight.grad is None
    assert model.training
    assert not model[0].bias.requires_grad
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, copy)
    assert not x.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_a_model_writes_into_its_arguments_is_as_before_at_each_call():
    def model(x, cache):
        cache.append(x.detach())
        return x * len(cache)

    cache = []
    assert not leaks(model, {"x": torch.randn(2, 3), "cache": cache})
    assert cache == []


def test_hooks_and_buffers_are_put_back_when_it_is_stopped():
    class Stopped(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm, self.calls = nn.Embedding(50, 4), nn.BatchNorm1d(4), 0

        def forward(self, input_ids):
            self.calls += 1
            x = self.norm(self.embed(input_ids))
            if self.calls == 4:
                raise KeyboardInterrupt
            return x

    model = Stopped()
    with pytest.raises(KeyboardInterrupt):
        leaks(model, {"input_ids": ids_of(4)})
    assert model.norm.num_batches_tracked == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_it_works_in_inference_mode_and_without_gradients():
    model = Model("scree")
    for context in (torch.inference_mode, torch.no_grad):
        with context():
            batch = {name: x.clone() for name, x in BATCH.items()}
            assert "gradients of embed" in leaks(model, batch).watched
            arr = scree.from_lengths(torch.randn(8, 4), LENGTHS)
            assert "gradients of 0" in leaks(lambda x: scree.varlen_softmax(x), arr).watched


def test_dropout_is_refused_with_its_name():
    model = Model("scree", nn.Dropout(0.5))
    with pytest.raises(ArgumentError, match=r"isn't deterministic.*, output differ.*first that does is middle "
                       r"\(Dropout\). It is in training mode: call model.eval\(\)"):  # fmt: skip
        leaks(model, BATCH)
    assert not leaks(model.eval(), BATCH)


class Shaky(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad + torch.rand_like(grad) * 1e-6


class ShakyModule(nn.Module):
    def forward(self, x):
        return Shaky.apply(x)


def test_gradients_that_differ_from_run_to_run_are_refused_with_the_module():
    model = Model("scree", ShakyModule())  # in training mode, which isn't the reason
    with pytest.raises(ArgumentError, match=r"gradients of embed differ.*middle \(ShakyModule\).*use_deterministic"):
        leaks(model, BATCH)
    assert not leaks(model, BATCH, gradients=False)
    assert not leaks(model, BATCH, tolerance=1e-4)


def test_nan_before_anything_is_changed_is_refused():
    x = torch.randn(3, 2)
    x[1, 0] = torch.nan
    with pytest.raises(ArgumentError, match="row 1 of output has NaN before anything is changed"):
        leaks(lambda x: x * 2, x)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"probes": ["noise"]}, ArgumentError, "probes='noise' must be among 'change', 'nan'"),
        ({"probes": []}, ArgumentError, "tries nothing"),
        ({"tolerance": 2}, ArgumentError, "tolerance=2 must be a share"),
        ({"tolerance": True}, ArgumentError, "tolerance=True"),
        ({"inputs": ["nonsense"]}, ArgumentError, r"inputs='nonsense' is none of what the batch has: \['input_ids'"),
        ({"inputs": []}, ArgumentError, "perturbs nothing"),
        ({"inputs": ["input_ids", "cu_seqlens"]}, ArgumentError, "no element for each slot"),
        ({"only": [3]}, ArgumentError, "only=3 is no row with elements; the batch has 3 rows"),
        ({"only": ["a"]}, ArgumentTypeError, "only='a' must be the number of a row"),
        ({"rows": ROWS[:-1]}, ShapeError, r"rows of shape \(7,\) don't fit inputs of shape \(8,\)"),
        ({"rows": ROWS.double()}, ArgumentTypeError, "rows must be whole numbers"),
        ({"rows": ROWS - 2}, ArgumentError, "rows count from 0, and padding is -1"),
    ],
)
def test_wrong_arguments_are_refused_before_the_model_is_called(options, error, message):
    def model(**_):
        raise AssertionError("called")

    with pytest.raises(error, match=message):
        leaks(model, BATCH, **options)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ({"x": 1}, ArgumentError, r"nothing to perturb among \['x'\]"),
        ({"input_ids": ids_of(2, 3).bool()}, ArgumentTypeError, "torch.bool"),
        ({"input_ids": ids_of(2, 3), "attention_mask": torch.tensor([[1, 1, 2], [1, 2, 2]])}, ArgumentError, "value 2"),
        ({"input_ids": ids_of(2, 3), "attention_mask": torch.ones(2, 1, 3, 3)}, UnsupportedError, "rows="),
        ({"input_ids": ids_of(2, 3), "position_ids": torch.ones(3, 2, 3)}, UnsupportedError, "rows="),
        ({"input_ids": ids_of(1, 3), "cu_seqlens": torch.tensor([0, 4])}, ShapeError, r"cu_seqlens=\[0, 4\]"),
        ({"input_ids": ids_of(2, 3), "cu_seqlens": torch.tensor([0, 3])}, ShapeError, "one packed sequence"),
    ],
)
def test_batches_whose_rows_are_unclear_are_refused(batch, error, message):
    with pytest.raises(error, match=message):
        leaks(lambda **batch: batch["input_ids"], batch)


def test_a_model_without_rows_in_its_outputs_is_refused():
    with pytest.raises(ArgumentError, match=r"seen in none of the model's outputs \(output\)"):
        leaks(lambda x: x.new_ones(7, 5), torch.randn(2, 3))
    with pytest.raises(ArgumentError, match="there is no tensor"):
        leaks(lambda x: x.sum(), torch.randn(2, 3))
    with pytest.raises(ArgumentTypeError, match="model must be callable, got int"):
        leaks(3, torch.randn(2, 3))


def test_a_bar_needs_tqdm(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    assert not leaks(lambda x: x * 2, torch.randn(2, 3))
    with pytest.raises(BackendNotInstalledError, match="pip install tqdm"):
        leaks(lambda x: x * 2, torch.randn(2, 3), progress=True)
