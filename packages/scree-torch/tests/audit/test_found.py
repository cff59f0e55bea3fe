"""What an audit finds: rows that reach each other forward, backward, by labels, by statistics, by padding."""

import numpy as np
import torch
from torch import nn

from scree_torch.audit import leaks

from .models import BATCH, EVERY_PAIR, OFFSETS, ONWARDS, Model, ids_of, pairs


def test_attention_that_knows_its_rows_passes():
    report = leaks(Model("scree"), BATCH)
    assert not report
    assert (report.rows, report.probed, report.perturbed) == (3, (0, 1, 2), ("input_ids",))
    assert report.watched == ("output", "gradients of embed")
    assert (report.not_done, report.unmoved, report.unwatched, report.origins) == ({}, (), (), {})
    assert str(report).startswith("no row reaches another: 3 rows; changed: input_ids; watched: output, gradients of")


def test_attention_over_all_rows_is_found_and_named():
    report = leaks(Model("plain"), BATCH)
    assert pairs(report) == ONWARDS
    assert pairs(report, seen_in="gradients") == EVERY_PAIR
    assert pairs(report, "nan") == EVERY_PAIR  # zero weights let NaN through backwards too
    assert {(origin.module, origin.kind) for origin in report.origins.values()} == {("attention", "Attention")}
    assert set(report.origins) == {("change", "outputs"), ("nan", "outputs")}
    assert "first in attention (Attention)" in str(report)
    assert "row 0 in rows 1-2, by up to" in str(report)
    assert str(report).count("  row 0 in rows 1-2") == 2  # of outputs, by contents and by NaN; gradients follow


def test_a_mask_keeps_contents_apart_and_not_nan_and_the_report_says_so():
    report = leaks(Model("masked"), BATCH)
    assert pairs(report) == pairs(report, seen_in="gradients") == set()
    assert pairs(report, "nan") == EVERY_PAIR
    assert "contents reach no other row; NaN does" in str(report)
    assert not leaks(Model("masked"), BATCH, probes="change")


class MixesBackward(torch.autograd.Function):
    """The identity, whose gradient has the mean of all in it."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad + grad.mean(0)


class Backward(nn.Module):
    def forward(self, x):
        return MixesBackward.apply(x * x)


def test_a_leak_of_backward_alone_is_found_and_named():
    report = leaks(Model("scree", Backward()), BATCH)
    assert pairs(report) == pairs(report, "nan") == set()
    assert pairs(report, seen_in="gradients") == pairs(report, "nan", "gradients") == EVERY_PAIR
    assert report.origins["change", "gradients"].module == "middle"
    assert report.origins["nan", "gradients"].module == "middle"
    assert not leaks(Model("scree", Backward()), BATCH, gradients=False)


class KeysMix(nn.Module):
    """Three ways to one sum, of which the middle one mixes rows on its way back."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        return self.first(x).sin() + MixesBackward.apply(self.second(x) ** 2) + self.third(x).cos()


def test_a_module_is_told_from_its_neighbours_by_what_it_sends_back_itself():
    report = leaks(Model("scree", KeysMix()), BATCH)
    assert pairs(report) == set()
    assert report.origins["change", "gradients"].module == "middle"  # and none of the linear layers within


class Reads(nn.Module):
    """Is given what others leak into, and sends nothing back."""

    def forward(self, x):
        return torch.ones(x.shape)


class Beside(nn.Module):
    def __init__(self):
        super().__init__()
        self.reads, self.mixes = Reads(), Backward()

    def forward(self, x):
        return self.mixes(x) * self.reads(x)


def test_a_module_that_sends_nothing_back_is_not_named():
    assert leaks(Model("scree", Beside()), BATCH).origins["change", "gradients"].module == "middle.mixes"


def test_a_label_that_comes_from_the_next_row_is_found():
    labels = BATCH["input_ids"].clone()
    report = leaks(Model("scree"), BATCH | {"labels": labels})
    assert pairs(report, seen_in="gradients") == {(1, 0), (2, 1)}  # the last token of a row learns the next row's first
    assert pairs(report) == set()
    assert report.origins["change", "gradients"].module == "loss"
    labels[OFFSETS[:-1].long()] = -100
    assert not leaks(Model("scree"), BATCH | {"labels": labels})


def test_statistics_over_the_batch_are_found_and_stay_what_they_were():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    batch = torch.randn(5, 4)
    report = leaks(model, batch)
    assert pairs(report) == {(a, b) for a in range(5) for b in range(5) if a != b}
    assert (report.origins["change", "outputs"].module, report.origins["change", "outputs"].kind) == (
        "1",
        "BatchNorm1d",
    )
    assert model[1].running_mean.tolist() == [0.0] * 4
    assert model[1].num_batches_tracked == 0
    assert not leaks(model.eval(), batch)


class Pooled(nn.Module):
    def __init__(self, masked):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.masked = nn.Embedding(50, 8), masked

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        return (x * attention_mask[..., None]).sum(1) if self.masked else x.mean(1)


def test_padding_that_is_heard_is_found():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    batch = {"input_ids": ids_of(2, 3), "attention_mask": mask}
    report = leaks(Pooled(False), batch)
    assert pairs(report) == {(-1, 1)}
    assert "padding in row 1" in str(report)
    assert not leaks(Pooled(True), batch)


def test_what_padding_hears_is_nobodys():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])

    def model(x, attention_mask):
        return torch.where(attention_mask[..., None].bool(), x, x[0, 0] * x[1, 0])

    assert not leaks(model, {"x": torch.randn(2, 3, 4), "attention_mask": mask}, probes="change")


def test_of_a_matrix_each_entry_says_how_far_a_row_reaches():
    report = leaks(Model("plain"), BATCH)
    found = report.matrix()
    assert found.shape == (3, 3)
    assert ((found > 0) == np.triu(np.ones((3, 3)), 1)).all()
    assert report.matrix("nan")[2, 0] == np.inf
    sizes = {(leak.source, leak.target): leak.size for leak in report if leak.probe == "change"}
    assert found[0, 2] == max(
        leak.size
        for leak in report
        if (leak.source, leak.target, leak.probe) == (0, 2, "change") and leak.seen_in == "outputs"
    )
    assert set(sizes) == EVERY_PAIR
    assert report[0] in report
    assert len(report[:2]) == 2
