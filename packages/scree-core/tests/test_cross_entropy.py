"""Cross-entropy by rows: what each reduction is, which label an element gets, and what is refused."""

import math

import numpy as np
import pytest

import scree_core as scree

RNG = np.random.default_rng(0)
LENGTHS = [3, 0, 1, 5]
LOGITS = RNG.standard_normal((9, 7))
LABELS = np.array([1, -100, 3, 6, 0, 2, -100, 4, 5])


def by_hand(logits, labels, lengths, shift):
    """Return the losses of the labels that count, row by row."""
    found, start = [], 0
    for length in lengths:
        row = []
        for i in range(length - shift):
            label = labels[start + i + shift]
            if label != -100:
                x = logits[start + i].astype(np.float64)
                row.append(math.log(math.fsum(math.exp(value) for value in x)) - x[label])
        found.append(row)
        start += length
    return found


@pytest.fixture(params=[True, False], ids=["shifted", "unshifted"])
def shift(request):
    return request.param


@pytest.mark.parametrize("as_array", [True, False])
def test_each_reduction_is_what_it_says(shift, as_array):
    logits = scree.from_lengths(LOGITS, LENGTHS)
    labels = scree.from_lengths(LABELS, LENGTHS) if as_array else LABELS
    rows = by_hand(LOGITS, LABELS, LENGTHS, shift)
    flat = [loss for row in rows for loss in row]
    means = [sum(row) / len(row) for row in rows if row]

    def got(reduction, **options):
        return scree.varlen_cross_entropy(logits, labels, shift=shift, reduction=reduction, **options)

    losses = got("none")
    assert losses.layout is logits.layout
    assert np.allclose(losses.values[losses.values != 0], flat, rtol=1e-12)
    assert np.allclose(got("row_sum"), [sum(row) for row in rows], rtol=1e-12)
    assert math.isclose(got("sum"), sum(flat))
    assert math.isclose(got("token_mean"), sum(flat) / len(flat))
    assert math.isclose(got("row_mean_token_mean"), sum(means) / len(means))
    assert math.isclose(got("token_mean", num_items=20), sum(flat) / 20)
    assert math.isclose(got("token_mean", num_items=np.array(20)), sum(flat) / 20)
    assert math.isclose(got("row_mean_token_mean", num_items=8), sum(means) / 8)


def test_the_mean_over_tokens_is_the_default():
    logits = scree.from_lengths(LOGITS, LENGTHS)
    mean = scree.varlen_cross_entropy(logits, LABELS, reduction="token_mean")
    assert scree.varlen_cross_entropy(logits, LABELS) == mean


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_row_takes_no_label_and_no_logits_from_its_neighbours(bad, shift):
    clean = scree.varlen_cross_entropy(scree.from_lengths(LOGITS, LENGTHS), LABELS, shift=shift, reduction="none")
    values, labels = LOGITS.copy(), LABELS.copy()
    values[:3], values[4:], labels[:3], labels[4:] = bad, bad, 2, 2
    logits = scree.from_lengths(values, LENGTHS)
    with np.errstate(all="ignore"):
        got = scree.varlen_cross_entropy(logits, labels, shift=shift, reduction="none")
    assert got.values[3] == clean.values[3]


def test_the_last_label_of_a_neighbour_is_none_of_a_row():
    logits = scree.from_lengths(np.eye(4) * 9, [2, 2])
    losses = scree.varlen_cross_entropy(logits, np.array([0, 0, 1, 1]), reduction="none").values
    assert losses[[1, 3]].tolist() == [0, 0]
    assert losses[0] < 0.01 < losses[2] - 8


def test_micro_batches_add_up_to_the_full_batch():
    lengths = [5, 17, 1, 40, 2, 9]
    values = RNG.standard_normal((sum(lengths), 50)).astype(np.float32)
    labels = RNG.integers(0, 50, sum(lengths))
    labels[RNG.random(sum(lengths)) < 0.3] = -100
    logits, targets = scree.from_lengths(values, lengths), scree.from_lengths(labels, lengths)
    losses = scree.varlen_cross_entropy(logits, targets, reduction="none")
    for reduction, count in (
        ("token_mean", int((losses.values > 0).sum())),
        ("row_mean_token_mean", int((scree.varlen_sum(losses) > 0).sum())),
    ):
        full = scree.varlen_cross_entropy(logits, targets, reduction=reduction)
        parts = sum(
            scree.varlen_cross_entropy(logits[rows], targets[rows], reduction=reduction, num_items=count)
            for rows in (slice(0, 1), slice(1, 4), slice(4, 6))
        )
        assert abs(parts - full) <= 1e-6 * abs(full)


def test_halves_give_losses_in_float32():
    logits = scree.from_lengths(np.zeros((4096, 2), np.float16), [4096])
    total = scree.varlen_cross_entropy(logits, np.zeros(4096, np.int64), shift=False, reduction="sum")
    assert total.dtype == np.float32
    assert math.isclose(total, 4096 * math.log(2), rel_tol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "token_mean", "row_mean_token_mean"])
def test_no_label_at_all_gives_zero(reduction):
    for lengths in ([], [0, 0], [1, 1], [3]):
        values = np.full((sum(lengths), 3), np.nan)
        logits = scree.from_lengths(values, lengths)
        assert scree.varlen_cross_entropy(logits, np.full(sum(lengths), -100), reduction=reduction) == 0


def test_unsigned_labels_are_compared_as_numbers():
    logits = scree.from_lengths(np.zeros((3, 4)), [3])
    for dtype in (np.uint8, np.uint16):
        losses = scree.varlen_cross_entropy(logits, np.array([1, 156, 3], dtype), ignore_index=156, reduction="none")
        assert losses.values.round(3).tolist() == [0, 1.386, 0]


@pytest.mark.parametrize(
    ("labels", "match"), [([0, 1, 7, 0, 0], r"labels\[2\] is 7"), ([0, 1, 0, 0, -2], r"\[4\] is -2")]
)
def test_a_label_that_is_no_class_is_refused(labels, match):
    logits = scree.from_lengths(np.zeros((5, 7)), [3, 2])
    with pytest.raises(scree.ShapeError, match=match + ", but logits of vocab 7 have the classes 0 to 6"):
        scree.varlen_cross_entropy(logits, np.array(labels))


def test_a_label_that_nothing_is_compared_with_may_be_anything():
    logits = scree.from_lengths(np.zeros((5, 7)), [3, 2])
    assert scree.varlen_cross_entropy(logits, np.array([99, 1, 1, -5, 1])) > 0
    dead = scree.Array(np.zeros((5, 7)), np.array([0, 3]), tail=True)
    for shift in (True, False):
        assert scree.varlen_cross_entropy(dead, np.array([0, 1, 1, 99, -5]), shift=shift) > 0


def test_where_the_host_sees_no_labels_the_loss_is_nan(monkeypatch):
    logits = scree.from_lengths(np.zeros((5, 7)), [3, 2])
    monkeypatch.setattr(type(logits.backend), "host_view", lambda self, x: None)
    losses = scree.varlen_cross_entropy(logits, np.array([0, 7, 1, 0, -1]), reduction="none").values
    assert np.isnan(losses).tolist() == [True, False, False, True, False]
