"""NumPy's masked arrays: nothing that is masked becomes data unsaid, whichever way it comes in."""

from types import SimpleNamespace

import numpy as np
import pytest

import scree_core as scree
from scree_core import bridges
from scree_core.errors import ArgumentTypeError

OFFSETS, ONES = np.array([0, 1, 2], np.int32), np.array([1, 1])
PLAIN, IDS = np.arange(2.0), np.array([0, 1])


def masked(values):
    """Hide the last element."""
    mask = np.zeros(values.shape, bool)
    mask.flat[-1] = True
    return np.ma.masked_array(values, mask)


VALUES = masked(PLAIN)
SQUARE = masked(np.arange(4.0).reshape(2, 2))
WAYS_IN = {
    "Array": lambda: scree.Array(VALUES, OFFSETS),
    "from_cu_seqlens": lambda: scree.from_cu_seqlens(VALUES, OFFSETS),
    "from_lengths": lambda: scree.from_lengths(VALUES, ONES),
    "lengths": lambda: scree.from_lengths(PLAIN, masked(ONES)),
    "from_segment_ids": lambda: scree.from_segment_ids(VALUES, IDS),
    "segment_ids": lambda: scree.from_segment_ids(PLAIN, masked(IDS)),
    "pack": lambda: scree.pack([VALUES, VALUES]),
    "from_padded": lambda: scree.from_padded(SQUARE, np.ones((2, 2), bool)),
    "mask": lambda: scree.from_padded(np.ones((2, 2)), masked(np.ones((2, 2), bool))),
    "from_hf_padded": lambda: bridges.from_hf_padded(SQUARE, np.ones((2, 2), int)),
    "attention_mask": lambda: bridges.from_hf_padded(np.ones((2, 2)), masked(np.ones((2, 2), int))),
    "from_hf_flattened": lambda: bridges.from_hf_flattened(VALUES[None], cu_seq_lens_q=OFFSETS),
    "position_ids": lambda: bridges.from_hf_flattened(PLAIN[None], position_ids=masked(IDS)),
    "seq_idx": lambda: bridges.from_hf_flattened(PLAIN[None], seq_idx=masked(IDS)),
    "from_pyg": lambda: bridges.from_pyg(VALUES, ptr=OFFSETS),
    "batch": lambda: bridges.from_pyg(PLAIN, batch=masked(IDS)),
    "ptr and batch": lambda: bridges.from_pyg(PLAIN, ptr=OFFSETS, batch=masked(IDS)),
    "from_jraph": lambda: bridges.from_jraph(SimpleNamespace(nodes=VALUES, n_node=ONES)),
    "n_node": lambda: bridges.from_jraph(SimpleNamespace(nodes=PLAIN, n_node=masked(ONES))),
}
BESIDE = {
    "offsets": lambda: scree.Array(PLAIN, masked(OFFSETS)),
    "with_values": lambda: scree.from_lengths(PLAIN, ONES).with_values(VALUES),
    "pack": lambda: scree.pack([PLAIN, VALUES]),
    "operators": lambda: scree.from_lengths(PLAIN, ONES) + VALUES,
    "ptr": lambda: bridges.from_pyg(PLAIN, ptr=masked(OFFSETS)),
}


@pytest.mark.parametrize("enter", WAYS_IN.values(), ids=WAYS_IN)
def test_a_masked_array_is_refused_and_the_message_mends_it(enter):
    with pytest.raises(ArgumentTypeError, match=r"a MaskedArray has a mask, .* x\.filled\(value\)"):
        enter()


@pytest.mark.parametrize("enter", BESIDE.values(), ids=BESIDE)
def test_a_masked_array_beside_a_plain_one_is_named(enter):
    with pytest.raises(ArgumentTypeError, match="MaskedArray"):
        enter()


def test_the_message_mends_it():
    assert scree.from_lengths(VALUES.filled(-1), ONES).values.tolist() == [0, -1]
    arr = scree.from_padded(SQUARE.data, ~np.ma.getmaskarray(SQUARE))
    assert [row.tolist() for row in arr] == [[0, 1], [2]]
