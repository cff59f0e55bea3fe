"""The bridges that need no framework, with the arrays of each library."""

from types import SimpleNamespace

import numpy as np
import pytest

import scree
import scree.bridges

LENGTHS = [1, 0, 3, 2]


@pytest.fixture(params=[False, True], ids=["exact", "tail"])
def ids(request, one):
    arr = scree.from_lengths(one.array(np.arange(5, 11, dtype=np.int32)), LENGTHS)
    return scree.bucket(arr) if request.param else arr


def test_flattened_batches_go_over_and_back(one, ids):
    batch = scree.bridges.to_hf_flattened(ids, labels=ids, position_ids_start=2, return_seq_idx=True)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert batch["labels"].tolist() == [[-100, -100, 7, 8, -100, 10]]
    assert batch["position_ids"].tolist() == [[2, 2, 3, 4, 2, 3]]
    assert batch["seq_idx"].tolist() == [[0, 2, 2, 2, 3, 3]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 1, 1, 4, 6]
    assert batch["max_length_q"] == 3
    for source, lengths in (("cu_seq_lens_q", LENGTHS), ("seq_idx", LENGTHS), ("position_ids", [1, 3, 2])):
        back = scree.bridges.from_hf_flattened(batch["input_ids"], **{source: batch[source]})
        assert back.lengths.tolist() == lengths
        assert type(back.values) is type(back.offsets) is type(ids.values)
    assert scree.bridges.from_hf_flattened(batch["input_ids"], batch).values.tolist() == [5, 6, 7, 8, 9, 10]


def test_nodes_go_over_and_back(one, ids):
    parts = scree.bridges.to_pyg(ids)
    assert parts["batch"].tolist() == [0, 2, 2, 2, 3, 3]
    for back in (
        scree.bridges.from_pyg(SimpleNamespace(**parts)),
        scree.bridges.from_pyg(parts["x"], batch=parts["batch"]),
        scree.bridges.from_jraph(SimpleNamespace(**scree.bridges.to_jraph(ids))),
    ):
        assert back.lengths.tolist() == LENGTHS
        assert back.values.tolist() == [5, 6, 7, 8, 9, 10]
        assert type(back.values) is type(back.offsets) is type(ids.values)


def test_hugging_face_masks_warn_of_nothing(one, ids):
    assert scree.bridges.to_hf_padded(ids)[1].tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 0]]


def test_files_go_over_and_back(one, ids, tmp_path):
    scree.bridges.save(tmp_path / "ids.npz", ids)
    back = scree.bridges.load(tmp_path / "ids.npz", backend=one.name)
    assert type(back.values) is type(back.offsets) is type(ids.values)
    assert np.array_equal(one.numbers(back.values), one.numbers(ids.values))
    assert back.layout.tail == ids.layout.tail
    assert (back.max_length, back.min_length) == (ids.max_length, ids.min_length)


def test_arrays_go_to_numpy(one, ids):
    there = scree.bridges.to_numpy(ids)
    assert np.array_equal(there.values, one.numbers(ids.values))
    assert there.layout.tail == ids.layout.tail
