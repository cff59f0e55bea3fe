"""The map of tiles: every tile once, the rows that have most to do first."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scree_triton.attention import tiles as module  # noqa: E402
from scree_triton.attention.tiles import make_tiles  # noqa: E402
from scree_triton.attention.told import bound  # noqa: E402


def expected(lengths, others, block):
    order = sorted(range(len(lengths)), key=lambda row: (-others[row], row))
    return [(row, j) for row in order for j in range(-(-lengths[row] // block))]


def made(lengths, others, block, device, dtype=torch.int32, capacity=None):
    offsets, other = (torch.tensor([0, *np.cumsum(n)], dtype=dtype, device=device) for n in (lengths, others))
    capacity = bound(len(lengths), int(sum(lengths)), None, block) if capacity is None else capacity
    found = make_tiles(offsets, other, capacity, block).tolist()
    live = [(tile >> 32, tile & 0xFFFFFFFF) for tile in found if tile >= 0]
    assert found[len(live) :] == [-1] * (len(found) - len(live))
    return live


@pytest.mark.parametrize("block", [16, 64, 128])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_longest_rows_come_first(block, dtype, device):
    rng = np.random.default_rng(block)
    for batch in (1, 3, 17, 40):
        lengths, others = rng.integers(0, 300, (2, batch))
        assert made(lengths, others, block, device, dtype) == expected(lengths, others, block)
        assert made(lengths, lengths, block, device, dtype) == expected(lengths, lengths, block)


def test_many_rows_are_sorted(device, monkeypatch):
    monkeypatch.setattr(module, "MANY", 8)
    rng = np.random.default_rng(0)
    lengths, others = rng.integers(0, 100, (2, 50))
    assert made(lengths, others, 16, device) == expected(lengths, others, 16)


def test_a_row_of_many_tiles(device):
    assert made([5000, 3], [1, 2], 16, device) == expected([5000, 3], [1, 2], 16)


def test_the_bound_is_kept_by_every_batch():
    rng = np.random.default_rng(0)
    for _ in range(200):
        batch, block = int(rng.integers(1, 20)), int(rng.choice([16, 64, 128]))
        lengths = rng.integers(0, 400, batch)
        tiles = sum(-(-int(n) // block) for n in lengths)
        total, longest = int(lengths.sum()), int(lengths.max())
        assert tiles <= bound(batch, total, longest, block) <= bound(batch, total, None, block)


@pytest.mark.cuda
def test_a_hundred_thousand_rows():
    lengths = np.random.default_rng(0).integers(0, 200, 100_000)
    assert made(lengths, lengths, 64, "cuda") == expected(lengths, lengths, 64)
