"""Rows on rectangles and back."""

import math

import mlx.core as mx
import numpy as np
import pytest

import scree
from scree_core.layout import Layout
from scree_mlx.rectangles import MOST_WORK, grouped, on_device, on_host

LENGTHS = ([5], [3, 1, 5], [0, 4, 0, 2, 0], [0, 0], [], [1, 2, 61, 1], [7, 8, 9, 31, 32, 33])


def offsets_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("operands", [1, 2])
def test_groups_hold_every_busy_row_once_and_little_padding(seed, operands):
    rng = np.random.default_rng(seed)
    lengths = [np.maximum(0, rng.lognormal(3, 1, 200).astype(int) - 5) for _ in range(operands)]
    groups = grouped(*lengths)
    busy = np.flatnonzero(np.prod(lengths, axis=0))
    assert sorted(np.concatenate(groups)) == busy.tolist()
    for group in groups:
        padded = len(group) * math.prod(x[group].max() for x in lengths)
        assert padded <= MOST_WORK * np.prod([x[group] for x in lengths], axis=0).sum()
    assert len(groups) < len(busy) / (5 if operands == 1 else 1.5)


@pytest.mark.parametrize("tail", [0, 3])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_collecting_undoes_spreading(lengths, tail):
    offsets = offsets_of(lengths)
    total = int(offsets[-1]) + tail
    x = mx.arange(1, 2 * total + 1).reshape(total, 2).astype(mx.float32)
    layout = Layout.trusted(mx.array(offsets), max_length=max(lengths, default=0), tail=tail > 0)
    for laid in (on_host(offsets, grouped(np.diff(offsets)), total), on_device(layout, total, "op")):
        if not laid.rectangles:
            assert sum(lengths) == 0
            continue
        parts = laid.spread(x)
        assert [part.shape for part in parts] == [(r.rows, r.width, 2) for r in laid.rectangles]
        assert sum(int((part != 0).sum().item()) for part in parts) == 2 * sum(lengths)
        back = laid.collect(parts, mx.array(-1.0))
        assert back.tolist() == [*x[: total - tail].tolist(), *[[-1, -1]] * tail]


def test_gradients_go_both_ways():
    offsets = offsets_of([2, 3])
    laid = on_host(offsets, [np.array([0, 1])], 6)
    x = mx.arange(6.0)

    def loss(x):
        (part,) = laid.spread(x)
        return (laid.collect([part * mx.arange(6.0).reshape(2, 3)], mx.zeros(())) * mx.arange(1.0, 7.0)).sum()

    assert mx.grad(loss)(x).tolist() == [0, 2, 9, 16, 25, 0]
    assert mx.grad(lambda x: mx.grad(loss)(x).sum())(x).tolist() == [0] * 6


def test_rectangles_are_kept_with_the_layout():
    arr = scree.from_lengths(mx.ones((5, 2)), [2, 3])
    scree.varlen_cumsum(arr)
    before = len(arr.layout._derived)
    scree.varlen_cumsum(arr * 2)
    assert len(arr.layout._derived) == before
