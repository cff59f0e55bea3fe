"""Ways to call an audit, and to tell it of rows; what it tells of what wasn't tried."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import scree
from scree_torch.audit import leaks

from .models import BATCH, EVERY_PAIR, LENGTHS, OFFSETS, ONWARDS, ROWS, Model, ids_of, pairs


def test_arrays_tell_their_rows():
    arr = scree.from_lengths(torch.randn(8, 4), LENGTHS)
    assert not leaks(lambda x: x * scree.varlen_softmax(x).values, arr)
    report = leaks(lambda x: x.values - x.values.mean(0), arr)
    assert pairs(report) == pairs(report, "nan") == EVERY_PAIR
    assert report.origins == {("change", "outputs"): None, ("nan", "outputs"): None}  # a function has no modules


def test_one_result_for_each_row_is_looked_at():
    arr = scree.from_lengths(torch.randn(8, 4), LENGTHS)
    assert not leaks(lambda x: {"mean": scree.varlen_mean(x), "rows": [x]}, arr)
    report = leaks(lambda x: scree.varlen_mean(x).cumsum(0), arr)
    assert pairs(report) == ONWARDS


def test_a_tail_is_no_row_of_anyones():
    arr = scree.Array(torch.randn(9, 4), OFFSETS, tail=True)
    assert arr.layout.tail
    assert not leaks(lambda x: scree.varlen_softmax(x), arr)
    report = leaks(lambda x: x.values - x.values[8:], arr)
    assert {source for source, _ in pairs(report)} == {-1}


def test_a_tuple_is_positional_and_the_first_tensor_is_changed():
    model = Model("plain")
    report = leaks(model, (BATCH["input_ids"], OFFSETS), rows=ROWS)
    assert pairs(report) == ONWARDS
    assert report.perturbed == ("0",)
    assert not leaks(lambda ids, offsets: model.head(model.embed(ids)), (BATCH["input_ids"], OFFSETS), rows=ROWS)


def test_partials_and_methods_have_modules():
    model = Model("plain")
    for function in (partial(model, cu_seqlens=OFFSETS), partial(model.forward, cu_seqlens=OFFSETS)):
        report = leaks(function, {"input_ids": BATCH["input_ids"]}, rows=ROWS)
        assert report.origins["change", "outputs"].module == "attention"


def test_sequences_of_a_batch_are_rows_where_nothing_else_is_told():
    x = torch.randn(3, 2, 4)
    assert not leaks(lambda x: x.cumsum(1), x)
    assert pairs(leaks(lambda x: x.cumsum(0), x)) == ONWARDS
    heads = torch.randn(3, 5, 2, 4)  # (batch, heads, length, head_dim)
    assert pairs(leaks(lambda x: heads.new_ones(3, 5, 2, 4) * x.cumsum(0)[:, None], x)) == ONWARDS


@pytest.mark.parametrize(
    "told",
    [
        {"cu_seq_lens_q": OFFSETS},
        {"cu_seqlens": OFFSETS[None]},
        {"seq_idx": ROWS[None]},
        {"position_ids": torch.tensor([[0, 1, 2, 0, 0, 1, 2, 3]])},
        {
            "position_ids": torch.tensor([[2, 3, 4, 2, 2, 3, 4, 5]]),
            "attention_mask": torch.ones(1, 8, dtype=torch.long),
        },
    ],
    ids=lambda told: "-".join(told),
)
def test_packed_rows_are_told_in_many_ways(told):
    def model(x, **_):
        return x.cumsum(1)

    assert pairs(leaks(model, {"x": torch.randn(1, 8, 4)} | told)) == ONWARDS


def test_positions_of_padding_begin_no_row():
    positions = torch.tensor([[1, 1, 0, 1], [0, 1, 2, 3]])  # as generation gives them to a batch padded on the left
    batch = {"x": torch.randn(2, 4, 3), "position_ids": positions}
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    report = leaks(lambda x, **_: x.cumsum(1), batch | {"attention_mask": mask}, probes="change")
    assert report.rows == 2
    assert pairs(report) == {(-1, 0)}


def test_an_encoder_and_a_decoder_have_lengths_of_their_own():
    torch.manual_seed(0)
    embed = nn.Embedding(50, 4)

    class Both(nn.Module):
        def __init__(self, over):
            super().__init__()
            self.embed, self.over = embed, over

        def forward(self, input_ids, decoder_input_ids, labels=None):
            seen = self.embed(input_ids).mean(1, keepdim=True)
            return self.embed(decoder_input_ids) + (seen.roll(1, 0) if self.over else seen)

    batch = {"input_ids": ids_of(2, 5), "decoder_input_ids": ids_of(2, 3, seed=1)}
    report = leaks(Both(False), batch)
    assert not report
    assert report.perturbed == ("input_ids", "decoder_input_ids")
    assert pairs(leaks(Both(True), batch)) == {(0, 1), (1, 0)}


@pytest.mark.parametrize("padded", ["attention_mask", "decoder_attention_mask"])
def test_what_pads_one_of_an_encoder_and_a_decoder_does_not_pad_the_other(padded):
    torch.manual_seed(0)

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 4)

        def forward(self, input_ids, decoder_input_ids, **masks):
            ones = torch.ones(2, 3)
            given, made = (masks.get(name, ones)[..., None] for name in ("attention_mask", "decoder_attention_mask"))
            seen = (self.embed(input_ids) * given).sum(1, keepdim=True)
            return (self.embed(decoder_input_ids) * made + seen).flip(1).cumsum(1).flip(1)

    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    batch = {"input_ids": ids_of(2, 3), "decoder_input_ids": ids_of(2, 3, seed=1), padded: mask}
    assert not leaks(Both(), batch)  # as if padding were heard, where both had one mask


def test_half_precision_is_audited():
    x = torch.randn(3, 2, 4, dtype=torch.bfloat16)
    assert not leaks(lambda x: x * 2, x)
    assert pairs(leaks(lambda x: x.cumsum(0), x)) == ONWARDS


def test_ids_that_are_kept_are_neither_changed_nor_put_in():
    seen = []

    def model(input_ids, **_):
        seen.append(input_ids.clone())
        return input_ids.double()

    ids = torch.tensor([[5, 6, 7, 2, 8, 9, 6, 2]])
    leaks(model, {"input_ids": ids, "cu_seqlens": torch.tensor([0, 4, 8])}, keep=[2], probes="change")
    for each in seen:
        assert ((each == 2) == (ids == 2)).all()
        assert set(each.unique().tolist()) <= set(ids.unique().tolist())
    assert (seen[2][0, :3] != ids[0, :3]).all()
    assert (seen[2][0, 4:] == ids[0, 4:]).all()


def test_only_some_rows_are_changed():
    report = leaks(Model("plain"), BATCH, only=[1])
    assert pairs(report) == {(1, 2)}
    assert report.probed == (1,)
    assert "1 of 3 rows" in str(report)


def test_empty_rows_are_left_alone():
    arr = scree.from_lengths(torch.randn(4, 2), [2, 0, 2])
    report = leaks(lambda x: scree.varlen_softmax(x), arr)
    assert not report
    assert report.probed == (0, 2)


def test_differences_up_to_the_tolerance_are_none():
    def model(x):
        return x + 1e-6 * x.mean(0)

    x = torch.randn(3, 2, dtype=torch.float64)
    assert leaks(model, x, probes="change")
    assert not leaks(model, x, probes="change", tolerance=1e-5)


def test_a_row_that_answers_to_nothing_is_told():
    report = leaks(lambda x: x * torch.tensor([[1.0], [0.0], [1.0]]), torch.randn(3, 2), probes="change")
    assert not report
    assert report.unmoved == (1,)
    assert "nothing is shown of row 1" in str(report)


def test_what_could_not_be_tried_is_told():
    report = leaks(lambda input_ids: functional.one_hot(input_ids, 50).double(), {"input_ids": ids_of(2, 3)})
    assert not report
    assert list(report.not_done) == ["nan, and gradients"]
    assert "not tried: nan, and gradients: there are no floating inputs" in str(report)
    report = leaks(lambda x: x.detach() * 2, torch.randn(2, 3))
    assert list(report.not_done) == ["gradients"]


def test_outputs_without_rows_are_told():
    report = leaks(lambda x: {"x": x, "weights": torch.ones(7, 5)}, torch.randn(2, 3))
    assert report.unwatched == ("weights",)
    assert "not watched, for rows aren't seen in it: weights" in str(report)


def test_a_compiled_model_is_audited_by_its_outputs():
    model = torch.compile(Model("plain"), backend="eager")
    report = leaks(model, BATCH)
    assert pairs(report) == ONWARDS
    assert "hooks aren't heard" in report.not_done["nan, and gradients"]
    assert report.origins == {("change", "outputs"): None}


def test_checkpointed_layers_are_audited():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Model("scree")

        def forward(self, input_ids, cu_seqlens):
            return torch.utils.checkpoint.checkpoint(self.model, input_ids, cu_seqlens, use_reentrant=False)

    report = leaks(Checkpointed(), BATCH)
    assert not report
    assert not report.not_done
