"""The reference's moves of elements against loops over rows: to_padded and repeat_rows."""

from __future__ import annotations

import types

import numpy as np
import pytest

from scree_core import reference

OFFSETS = {
    "mixed": [0, 0, 3, 3, 4, 9, 9],
    "one row": [0, 4],
    "all empty": [0, 0, 0],
    "none": [0],
}
DTYPES = ["bool", "int8", "uint16", "int32", "int64", "float16", "float32", "float64", "complex128"]


def elements(offsets, features, dtype, seed=0):
    return np.random.default_rng(seed).integers(-9, 9, (offsets[-1], *features)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [(), (2,), (2, 3)])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("offsets", OFFSETS.values(), ids=OFFSETS)
def test_padding_puts_each_element_into_its_cell(offsets, side, features, dtype):
    x = elements(offsets, features, dtype)
    fill = np.ones((), dtype).item()
    for width in (5, 7):
        padded, mask = reference.to_padded(np, x, np.array(offsets, np.int32), width, side, fill)
        assert padded.shape == (len(offsets) - 1, width, *features)
        assert padded.dtype == dtype
        assert mask.shape == (len(offsets) - 1, width)
        assert mask.dtype == bool
        for r, (start, stop) in enumerate(reference.rows(offsets)):
            row = list(x[start:stop])
            padding = [np.full(features, fill, dtype)] * (width - len(row))
            cells = padding + row if side == "left" else row + padding
            flags = [side != "left"] * len(row) + [False] * len(padding)
            np.testing.assert_array_equal(padded[r], np.array(cells))
            assert mask[r].tolist() == (flags if side == "right" else [False] * len(padding) + [True] * len(row))


@pytest.mark.parametrize("offsets", [[0], [0, 0, 0]])
def test_padding_to_no_width_gives_no_cells(offsets):
    padded, mask = reference.to_padded(np, np.ones((0, 2)), np.array(offsets), 0, "right", 0.0)
    assert padded.shape == (len(offsets) - 1, 0, 2)
    assert mask.shape == (len(offsets) - 1, 0)


@pytest.mark.parametrize("fill", [np.nan, -np.inf])
def test_padding_may_be_filled_with_what_is_no_number(fill):
    padded, _ = reference.to_padded(np, np.ones(3, np.float16), np.array([0, 1, 3]), 2, "right", fill)
    np.testing.assert_array_equal(padded, np.array([[1, fill], [1, 1]], np.float16))
    assert padded.dtype == np.float16


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_indexes_stay_within_int32(side):
    last = 2**31 - 1
    taken = []

    def take(x, index, axis):
        taken.append(index)
        return np.zeros(index.shape)

    xp = types.SimpleNamespace(**{name: getattr(np, name) for name in ("arange", "where", "zeros_like", "reshape")})
    xp.full, xp.take = np.full, take
    x = np.broadcast_to(np.zeros(1), (last,))
    reference.to_padded(xp, x, np.array([last - 2, last], np.int32), 4, side, 0.0)
    cells = [0, 0, last - 2, last - 1] if side == "left" else [last - 2, last - 1, 0, 0]
    assert taken[0].tolist() == cells


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("offsets", OFFSETS.values(), ids=OFFSETS)
def test_the_vjp_of_padding_takes_each_element_from_its_cell(offsets, side):
    x = elements(offsets, (2,), "float64")
    padded, _ = reference.to_padded(np, x, np.array(offsets), 6, side, np.nan)
    (dx,) = reference.to_padded_vjp(np, padded, x, offsets, 6, side, np.nan)
    np.testing.assert_array_equal(dx, x)


@pytest.mark.parametrize("features", [(), (2, 3)])
@pytest.mark.parametrize("offsets", OFFSETS.values(), ids=OFFSETS)
def test_repeating_gives_each_element_the_entry_of_its_row(offsets, features):
    dense = np.random.default_rng(0).normal(size=(len(offsets) - 1, *features)).astype(np.float32)
    ids = reference.segment_ids(np, np.array(offsets, np.int32), offsets[-1])
    out = reference.repeat_rows(np, dense, ids)
    assert out.shape == (offsets[-1], *features)
    assert out.dtype == np.float32
    for r, (start, stop) in enumerate(reference.rows(offsets)):
        for i in range(start, stop):
            np.testing.assert_array_equal(out[i], dense[r])
