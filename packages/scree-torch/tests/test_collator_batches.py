"""PackedCollator beside what packs and loads: bins, samplers, streams, and workers of a DataLoader."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import scree
from scree.hf import PackedCollator

ROWS = [{"input_ids": row} for row in ([5, 6, 7], [8, 9], [], [10])]


def plain(batch):
    """Return a batch as lists and numbers."""
    return {name: x.tolist() if isinstance(x, torch.Tensor) else x for name, x in batch.items()}


def test_a_list_among_the_examples_is_a_bin():
    for bins in ([ROWS], [ROWS[:2], ROWS[2:]], [ROWS[0], (ROWS[1],), [], ROWS[2:]]):
        assert plain(PackedCollator()(bins)) == plain(PackedCollator()(ROWS))


def test_batches_of_a_sampler_fit_and_hold_each_row_once():
    lengths = np.random.default_rng(0).integers(1, 30, 50)
    data = [{"input_ids": np.full(length, i)} for i, length in enumerate(lengths)]
    sampler = scree.packing.TokenBudgetBatchSampler(lengths, 64, over="error")
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler, collate_fn=PackedCollator(multiple_of=64))
    batches = list(loader)
    assert len(batches) == len(sampler)
    assert {batch["input_ids"].shape for batch in batches} == {(1, 64)}
    seen = []
    for batch, rows in zip(batches, sampler.packing, strict=True):
        ids = scree.bridges.from_hf_flattened(batch["input_ids"], batch)
        assert [int(row[0]) for row in ids][: len(rows)] == rows.tolist()
        seen += rows.tolist()
    assert sorted(seen) == [*range(50)]


def test_bins_of_a_stream_are_batches_of_their_own():
    class Bins(torch.utils.data.IterableDataset):
        def __iter__(self):
            packer = scree.packing.Packer(4, over="split", open_bins=1)
            for text in ([1, 2, 3, 4, 5, 6], [7], [8, 9]):
                yield from map(self.cut, packer.add(len(text), text))
            yield from map(self.cut, packer.flush())

        def cut(self, pieces):
            return [{"input_ids": piece.item[piece.start : piece.start + piece.length]} for piece in pieces]

    loader = torch.utils.data.DataLoader(Bins(), batch_size=None, collate_fn=PackedCollator())
    assert [(b["input_ids"].tolist(), b["cu_seq_lens_q"].tolist()) for b in loader] == [
        ([[1, 2, 3, 4]], [0, 4]),
        ([[5, 6, 7]], [0, 2, 3]),
        ([[8, 9]], [0, 2]),
    ]


WORKERS = """
import sys
import numpy as np, torch
from scree.hf import PackedCollator

data = [{"input_ids": np.array(row)} for row in ([1, 2, 3], [4], [5, 6])]
options = {"batch_size": 2, "collate_fn": PackedCollator(multiple_of=4)}
here = torch.utils.data.DataLoader(data, **options)
there = torch.utils.data.DataLoader(data, **options, num_workers=2, multiprocessing_context=sys.argv[1])
for ours, theirs in zip(here, there, strict=True):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(torch.as_tensor(ours[name]), torch.as_tensor(theirs[name])) for name in ours)
print("the same")
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_give_the_batches_that_the_process_itself_gives(method):
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system can't {method}")
    # In a process of its own: this one may hold JAX, whose threads a fork would lose.
    run = subprocess.run([sys.executable, "-c", WORKERS, method], capture_output=True, text=True)
    assert run.stdout == "the same\n", run.stderr
