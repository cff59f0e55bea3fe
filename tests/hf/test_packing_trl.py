"""scree's packing never needs more bins than TRL's ``pack_dataset`` on the same lengths."""

import os

import numpy as np
import pytest

if "trl" not in os.environ.get("SCREE_REQUIRE", "").split(","):
    pytest.importorskip("trl", reason="trl isn't installed")
    pytest.importorskip("datasets", reason="datasets isn't installed")
import datasets
import trl

from scree.packing import pack_lengths

LENGTHS = {
    "log-normal": lambda rng: rng.lognormal(4.0, 1.0, 2000).astype(int),
    "uniform": lambda rng: rng.integers(1, 301, 2000),
    "of few lengths": lambda rng: rng.choice([64, 100, 120, 256], 2000),
    "longer than half a bin": lambda rng: rng.integers(129, 257, 1000),
    "with empty ones": lambda rng: rng.integers(0, 4, 1000) * 40,
}


@pytest.fixture(autouse=True)
def _quietly():
    datasets.disable_progress_bars()


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize(("strategy", "over"), [("bfd", "truncate"), ("bfd_split", "split"), ("wrapped", "split")])
@pytest.mark.parametrize("at_once", [500, 2000], ids=["500 at once", "all at once"])
def test_no_more_bins_than_trl(kind, strategy, over, at_once):
    lengths = LENGTHS[kind](np.random.default_rng(0))
    data = datasets.Dataset.from_dict({"input_ids": [[7] * length for length in lengths.tolist()]})
    theirs = trl.pack_dataset(data, 256, strategy, map_kwargs={"batch_size": at_once})
    ours = pack_lengths(lengths, 256, "concat" if strategy == "wrapped" else "bfd", over=over)
    elements = len(theirs.data.column("input_ids").combine_chunks().flatten())
    assert len(ours) <= len(theirs)
    assert ours.totals.sum() == elements  # the same of each row
