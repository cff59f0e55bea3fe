"""Every way to compute attention, on the CPU where it can run there, against the reference."""

import numpy as np
import pytest
import torch

from scree_core import reference
from scree_torch import namespace
from scree_torch.varlen_attention import by_rows, padded, plan
from scree_torch.varlen_attention.options import Options

SELF = [3, 150, 0, 1, 40], [3, 150, 0, 1, 40]
CROSS = [3, 0, 150, 2, 40, 1], [170, 4, 30, 0, 40, 9]

CASES = {
    "plain": (CROSS, (8, 8), Options(False, 0.3, (-1, -1), None)),
    "causal": (SELF, (8, 8), Options(True, 0.3, (-1, -1), None)),
    "causal cross": (CROSS, (8, 8), Options(True, 0.3, (-1, -1), None)),
    "window": (CROSS, (8, 8), Options(False, 0.3, (20, 3), None)),
    "causal window": (SELF, (8, 8), Options(True, 0.3, (20, -1), None)),
    "window to the right": (CROSS, (8, 8), Options(False, 0.3, (-1, 2), None)),
    "softcap": (SELF, (8, 8), Options(True, 0.3, (-1, -1), 2.0)),
    "other values": (CROSS, (8, 5), Options(True, 0.3, (-1, -1), None)),
}


def draw(lengths, dims, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    (q_lengths, k_lengths), (dim, v_dim) = lengths, dims
    shapes = (sum(q_lengths), 4, dim), (sum(k_lengths), 2, dim), (sum(k_lengths), 2, v_dim)
    arrays = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    offsets = [torch.tensor([0, *np.cumsum(each)], dtype=torch.int32) for each in lengths]
    return arrays, offsets


def call(way, arrays, offsets, options, upstream):
    """Return output, lse and gradients by one way."""
    lengths = [int(o.diff().max()) + 3 for o in offsets]  # bounds may be larger than need be
    if way is padded:
        found = padded.forward(*arrays, *offsets, *lengths, options)
        return *found, *padded.backward(*upstream, *arrays, *offsets, *lengths, options)
    found = by_rows.forward(*arrays, *offsets, options)
    return *found, *by_rows.backward(*upstream, *arrays, *found, *offsets, options)


@pytest.mark.parametrize("lse_gradient", [False, True], ids=["", "lse gradient"])
@pytest.mark.parametrize("bounds", [(1, 1), (plan.ALONE, plan.SHORT), (2**40, 2**40)], ids=["long", "", "short"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", [by_rows, padded], ids=["by_rows", "padded"])
def test_ways_agree_with_the_reference(way, name, bounds, lse_gradient, monkeypatch):
    monkeypatch.setattr(plan, "ALONE", bounds[0])
    monkeypatch.setattr(plan, "SHORT", bounds[1])
    lengths, dims, options = CASES[name]
    arrays, offsets = draw(lengths, dims)
    d_out = torch.randn(arrays[0].shape[0], 4, dims[1], dtype=torch.float64)
    d_lse = torch.randn(d_out.shape[:2], dtype=torch.float64) if lse_gradient else None
    got = call(way, arrays, offsets, options, (d_out, d_lse))
    host = [o.numpy() for o in offsets]
    named = {**options._asdict(), "sinks": None}
    expected = reference.varlen_attention(namespace, *arrays, *host, **named)
    gradients = reference.varlen_attention_vjp(namespace, d_out, d_lse, *arrays, *host, **named)[:3]
    for g, e in zip(got, (*expected, *gradients), strict=True):
        torch.testing.assert_close(g, e)


def test_a_query_that_sees_nothing_takes_no_nan_from_its_row():
    arrays, offsets = draw(([2, 2], [1, 2]), (4, 4))
    out, lse = padded.forward(*arrays, *offsets, 2, 2, Options(True, 0.5, (-1, -1), None))
    assert (out[0] == 0).all()
    assert (lse[0] == -torch.inf).all()
    assert out[1:].isfinite().all()


def test_short_rows_go_together_with_others_of_their_length():
    offsets = np.cumsum([0, 5, 300, 5, 4, 0, 5, 2])
    lo, hi = plan.key_ranges(offsets, offsets, causal=True, window=(-1, -1))
    flash, rest = plan.flash_tiles(offsets, offsets, causal=True, work=64)
    assert [(tile.q.start, tile.q.stop) for tile in flash] == [(5, 305)]
    tiles, missed_queries, missed_keys = plan.product_tiles(offsets, offsets, lo, hi, rest, work=64)
    assert sorted(tile.q_lengths for tile in tiles) == [(2,), (4, 5, 5, 5)]
    assert all(tile.first for tile in tiles)
    assert not missed_queries.any()
    assert missed_keys.tolist() == [False, False, False, False, True, False, False]


def test_the_first_tile_of_a_row_has_all_of_its_keys():
    offsets = np.array([0, 300])
    for window, firsts in (((-1, -1), [(0, 300)]), ((5, -1), [])):
        lo, hi = plan.key_ranges(offsets, offsets, causal=True, window=window)
        tiles, _, missed_keys = plan.product_tiles(offsets, offsets, lo, hi, np.array([True]), work=2**20)
        assert [(*tile.k_starts, *tile.k_lengths) for tile in tiles if tile.first] == firsts
        assert [tile.first for tile in tiles] == sorted((tile.first for tile in tiles), reverse=True)
        assert missed_keys.tolist() == [not firsts]
