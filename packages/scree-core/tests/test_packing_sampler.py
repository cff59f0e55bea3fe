"""Batches within a budget of tokens: the same number on every rank, each row once, and resumable."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scree_core as scree
from scree_core.packing import TokenBudgetBatchSampler

LENGTHS = np.random.default_rng(0).integers(0, 30, 100)


def sampler(lengths=LENGTHS, max_tokens=64, **options):
    return TokenBudgetBatchSampler(lengths, max_tokens, **{"over": "error", **options})


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 40), max_size=40),
    st.sampled_from(["bfd", "ffd", "next"]),
    st.sampled_from(["truncate", "drop"]),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(1, 4),
    st.integers(0, 3),
)
def test_ranks_get_equally_many_batches_and_each_row_once(
    lengths, algorithm, over, ranks, shuffle, drop_last, max_rows, epoch
):
    options = {"algorithm": algorithm, "over": over, "shuffle": shuffle, "drop_last": drop_last, "max_rows": max_rows}
    samplers = [sampler(lengths, 32, **options, rank=rank, world_size=ranks) for rank in range(ranks)]
    for one in samplers:
        one.set_epoch(epoch)
    of_ranks = [list(one) for one in samplers]
    batches = [batch for step in zip(*of_ranks, strict=True) for batch in step]
    count = len(samplers[0].packing)
    assert {len(own) for own in of_ranks} == {len(one) for one in samplers}
    assert len(batches) == (count // ranks if drop_last else -(-count // ranks)) * ranks
    assert batches[count:] == (batches * ranks)[: max(len(batches) - count, 0)]  # the first ones again
    once = [row for batch in batches[:count] for row in batch]
    expected = [i for i, length in enumerate(lengths) if over == "truncate" or length <= 32]
    if not drop_last or count % ranks == 0:
        assert sorted(once) == expected
        assert samplers[0].packing.dropped.tolist() == [i for i in range(len(lengths)) if i not in expected]
    assert len(set(once)) == len(once)
    for batch in batches:
        assert sum(min(lengths[i], 32) for i in batch) <= 32
        assert len(batch) <= (max_rows or len(batch))
        assert all(type(i) is int for i in batch)


@pytest.mark.parametrize("algorithm", ["bfd", "ffd", "next"])
def test_epochs_differ_and_come_again(algorithm):
    one = sampler(algorithm=algorithm)
    first = list(one)
    assert list(one) == first == list(sampler(algorithm=algorithm))
    one.set_epoch(1)
    second = list(one)
    assert {frozenset(batch) for batch in second} != {frozenset(batch) for batch in first}
    one.set_epoch(0)
    assert list(one) == first
    assert list(sampler(algorithm=algorithm, seed=1)) not in (first, second)


@pytest.mark.parametrize("algorithm", ["bfd", "ffd", "next"])
def test_shuffled_rows_keep_within_the_budget_and_dropped_ones_keep_their_names(algorithm):
    one = sampler(max_tokens=25, algorithm=algorithm, over="drop")
    for epoch in range(3):
        one.set_epoch(epoch)
        batches = list(one)
        assert max(LENGTHS[batch].sum() for batch in batches) <= 25
        assert sorted(i for batch in batches for i in batch) == np.flatnonzero(LENGTHS <= 25).tolist()
        assert one.packing.dropped.tolist() == np.flatnonzero(LENGTHS > 25).tolist()


def test_without_shuffling_all_epochs_are_alike():
    one = sampler(shuffle=False)
    first = list(one)
    one.set_epoch(1)
    assert list(one) == first


def test_the_state_goes_on_at_every_point():
    whole = sampler(rank=1, world_size=2)
    whole.set_epoch(3)
    expected = list(whole)
    for done in range(len(expected) + 1):
        one = sampler(rank=1, world_size=2)
        one.set_epoch(3)
        batches = iter(one)
        before = [next(batches) for _ in range(done)]
        other = sampler(rank=1, world_size=2)
        other.load_state_dict(json.loads(json.dumps(one.state_dict())))
        assert other.state_dict() == one.state_dict()
        other.set_epoch(3)  # as a training loop does: the same epoch, so it goes on
        assert before + list(other) == expected
        assert len(other) == len(expected)
        assert list(other) == expected  # only the next iteration begins in the middle
        other.set_epoch(4)
        assert len(list(other)) == len(expected)


def test_another_epoch_begins_at_its_start():
    one = sampler()
    one.load_state_dict(sampler().state_dict(position=2))
    one.set_epoch(1)
    assert len(list(one)) == len(one)


def test_the_state_can_be_that_of_batches_done_and_of_another_rank():
    one = sampler(rank=0, world_size=2)
    expected = list(sampler(rank=1, world_size=2))
    other = sampler(rank=1, world_size=2)
    other.load_state_dict(one.state_dict(position=3))
    assert list(other) == expected[3:]
    with pytest.raises(scree.ArgumentError, match="position=99 is more than the"):
        one.state_dict(position=99)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"lengths": LENGTHS[::-1]}, "other lengths"),
        ({"max_tokens": 65}, "max_tokens=64, this one has 65"),
        ({"seed": 1}, "seed=0, this one has 1"),
        ({"world_size": 2}, "world_size=1, this one has 2"),
        ({"algorithm": "ffd"}, "algorithm='bfd'"),
    ],
)
def test_a_state_of_other_data_or_options_is_refused(other, message):
    one = sampler(**other)
    with pytest.raises(scree.ArgumentError, match=message):
        one.load_state_dict(sampler().state_dict(position=1))
    assert one.state_dict()["position"] == 0


def test_a_state_of_something_else_is_refused():
    with pytest.raises(scree.ArgumentError, match=r"no \['epoch', 'lengths'"):
        sampler().load_state_dict({"position": 1, "options": {}})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"over": "split"}, "ArgumentError", "over='split' can't be said by indices"),
        ({"algorithm": "concat"}, "ArgumentError", "algorithm='concat' cuts rows"),
        ({"over": "no"}, "ArgumentError", "over='no'"),
        ({"max_tokens": 20}, "ArgumentError", r"lengths\[\d+\]=29 is over max_tokens=20; .* or a larger max_tokens"),
        ({"max_tokens": 0}, "ArgumentError", "max_tokens=0"),
        ({"rank": 2, "world_size": 2}, "ArgumentError", "rank=2 must be below world_size=2"),
        ({"rank": -1}, "ArgumentError", "rank=-1"),
        ({"world_size": 0}, "ArgumentError", "world_size=0"),
        ({"shuffle": 1}, "ArgumentTypeError", "shuffle must be True or False"),
        ({"seed": 0.5}, "ArgumentTypeError", "seed"),
    ],
)
def test_what_can_not_be_is_refused_by_name(options, error, message):
    with pytest.raises(getattr(scree, error), match=message):
        sampler(**options)


def test_no_rows_make_no_batches():
    assert list(sampler([], 8)) == []
    assert len(sampler([], 8)) == 0


def test_a_data_loader_takes_it():
    data = pytest.importorskip("torch.utils.data")
    rows = [np.full(length, i) for i, length in enumerate(LENGTHS)]
    one = sampler()
    loader = data.DataLoader(rows, batch_sampler=one, collate_fn=scree.pack)
    assert [batch.lengths.tolist() for batch in loader] == [LENGTHS[batch].tolist() for batch in one]
    assert len(loader) == len(one)
