"""The flattened batch of transformers, without transformers."""

from collections import UserDict

import numpy as np
import pytest

from scree_core import Array, bucket, from_lengths
from scree_core.bridges import from_hf_flattened, to_hf_flattened
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_core.registry import installed_for
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend


@pytest.fixture
def ids():
    return from_lengths(np.array([5, 6, 7, 8, 9, 10]), [1, 0, 3, 2])


class DistantBackend(LoopbackBackend):
    """Of arrays on a device that must not be read."""

    def to_numpy(self, x):
        raise AssertionError("a sync")


@pytest.fixture
def distant():
    with installed_for(LoopbackArray, DistantBackend()):
        yield lambda a: LoopbackArray(np.asarray(a))


def test_the_batch_has_what_a_model_with_flash_attention_takes(ids):
    batch = to_hf_flattened(ids)
    assert list(batch) == [
        "input_ids",
        "position_ids",
        "cu_seq_lens_q",
        "cu_seq_lens_k",
        "max_length_q",
        "max_length_k",
    ]
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert batch["position_ids"].tolist() == [[0, 0, 1, 2, 0, 1]]
    assert batch["position_ids"].dtype == np.int64
    assert batch["cu_seq_lens_q"] is batch["cu_seq_lens_k"]
    assert batch["cu_seq_lens_q"].tolist() == [0, 1, 1, 4, 6]
    assert (batch["max_length_q"], batch["max_length_k"]) == (3, 3)
    assert type(batch["max_length_q"]) is int


def test_token_ids_and_int32_offsets_are_shared(ids):
    batch = to_hf_flattened(ids)
    assert np.shares_memory(batch["input_ids"], ids.values)
    assert batch["cu_seq_lens_q"] is ids.offsets


def test_int64_offsets_become_int32():
    arr = Array(np.arange(3), np.array([0, 1, 3], np.int64))
    assert to_hf_flattened(arr)["cu_seq_lens_q"].dtype == np.int32


def test_the_first_label_of_each_row_is_separated_without_touching_the_token_ids(ids):
    before = ids.values.copy()
    assert to_hf_flattened(ids, labels=ids)["labels"].tolist() == [[-100, -100, 7, 8, -100, 10]]
    assert to_hf_flattened(ids, labels=ids, separator_id=-1)["labels"].tolist() == [[-1, -1, 7, 8, -1, 10]]
    assert np.array_equal(ids.values, before)


def test_labels_stay_as_they_are_where_no_separator_is_wanted(ids):
    labels = ids.with_values(ids.values * 2)
    assert to_hf_flattened(ids, labels, separator_id=None)["labels"].tolist() == [[10, 12, 14, 16, 18, 20]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_labels_of_any_dtype_hold_the_separator(ids, dtype):
    labels = to_hf_flattened(ids.astype(dtype), labels=ids.astype(dtype))["labels"]
    assert labels.dtype == np.int64
    assert labels[0, 0] == -100


def test_positions_may_start_at_another_number_and_rows_be_numbered(ids):
    batch = to_hf_flattened(ids, position_ids_start=2, return_seq_idx=True)
    assert batch["position_ids"].tolist() == [[2, 2, 3, 4, 2, 3]]
    assert batch["seq_idx"].tolist() == [[0, 2, 2, 2, 3, 3]]
    assert batch["seq_idx"].dtype == np.int32


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [2, 0]])
def test_empty_batches_and_rows_round_trip(lengths):
    arr = from_lengths(np.arange(sum(lengths)), lengths)
    batch = to_hf_flattened(arr, labels=arr, return_seq_idx=True)
    assert batch["input_ids"].shape == batch["labels"].shape == batch["seq_idx"].shape == (1, sum(lengths))
    back = from_hf_flattened(batch["input_ids"], batch)
    assert back.offsets.tolist() == arr.offsets.tolist()
    assert np.array_equal(back.values, arr.values)


def test_a_tail_is_cut_off(ids):
    padded = bucket(ids)
    padded.values[6:] = 77
    batch = to_hf_flattened(padded, labels=padded)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert batch["labels"].tolist() == [[-100, -100, 7, 8, -100, 10]]
    assert batch["max_length_q"] == 3


def test_a_bound_of_the_lengths_spares_reading_a_device(distant):
    arr = Array(distant([5, 6, 7]), distant(np.array([0, 1, 3], np.int32)), max_length=8)
    assert to_hf_flattened(arr, labels=arr)["max_length_q"] == 8


def test_hidden_states_and_floats_are_no_token_ids(ids):
    with pytest.raises(ShapeError, match=r"input_ids must be \(total,\) integers, got float64 .*inputs_embeds"):
        to_hf_flattened(from_lengths(np.ones((3, 4)), [3]))
    with pytest.raises(ShapeError, match=r"labels must be \(total,\) integers, got float64"):
        to_hf_flattened(ids, labels=ids.astype("float64"))
    with pytest.raises(ArgumentTypeError, match=r"input_ids must be a scree\.Array, got ndarray"):
        to_hf_flattened(np.ones(3))


def test_labels_of_other_rows_are_refused(ids):
    with pytest.raises(ShapeError, match="input_ids and labels need equal offsets"):
        to_hf_flattened(ids, labels=from_lengths(ids.values, [1, 1, 2, 2]))


def test_numbers_that_are_none_are_refused(ids):
    with pytest.raises(ArgumentTypeError, match="position_ids_start must be an integer"):
        to_hf_flattened(ids, position_ids_start=0.5)
    with pytest.raises(ArgumentError, match=r"separator_id=0\.5 can't be held"):
        to_hf_flattened(ids, labels=ids, separator_id=0.5)


def test_more_tokens_than_int32_counts_are_refused():
    huge = np.broadcast_to(np.int8(1), (2**31,))
    with pytest.raises(ShapeError, match="cu_seq_lens_q is int32 and can't count 2147483648 tokens"):
        to_hf_flattened(Array(huge, np.array([0, 2**31])))


# ------------------------------------------------------------------ back


@pytest.mark.parametrize("features", [(), (4,), (2, 3)])
def test_results_share_memory_and_lie_on_the_very_offsets(ids, features):
    batch = to_hf_flattened(ids)
    logits = np.zeros((1, 6, *features), np.float32)
    arr = from_hf_flattened(logits, batch)
    assert np.shares_memory(arr.values, logits)
    assert arr.values.shape == (6, *features)
    assert arr.offsets is ids.offsets
    assert arr.max_length == 3


@pytest.mark.parametrize("shape", [(1, 6), (6,)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_each_source_alone_tells_the_rows(shape, dtype):
    values = np.arange(6.0).reshape(1, 6)
    position_ids = np.array([0, 0, 1, 2, 0, 1], dtype).reshape(shape)
    seq_idx = np.array([0, 2, 2, 2, 3, 3], dtype).reshape(shape)
    assert from_hf_flattened(values, position_ids=position_ids).lengths.tolist() == [1, 3, 2]
    assert from_hf_flattened(values, seq_idx=seq_idx).lengths.tolist() == [1, 0, 3, 2]
    assert from_hf_flattened(values, {"seq_idx": seq_idx}).lengths.tolist() == [1, 0, 3, 2]


def test_a_first_chunk_that_begins_above_0_is_a_row_of_its_own():
    arr = from_hf_flattened(np.zeros((1, 5)), position_ids=np.array([[7, 8, 0, 1, 4]]))
    assert arr.lengths.tolist() == [2, 2, 1]


def test_positions_of_a_narrow_dtype_do_not_wrap_around():
    position_ids = np.array([[254, 255, 0, 1]], np.uint8)
    assert from_hf_flattened(np.zeros((1, 4)), position_ids=position_ids).lengths.tolist() == [2, 2]


def test_mappings_that_are_no_dict_are_taken(ids):
    batch = UserDict(to_hf_flattened(ids))  # as transformers' BatchEncoding is
    assert from_hf_flattened(batch["input_ids"], batch).offsets is ids.offsets


def test_a_device_is_not_read_where_the_offsets_are_given(distant):
    batch = {
        "cu_seq_lens_q": distant(np.array([0, 1, 3], np.int32)),
        "cu_seq_lens_k": distant(np.array([0, 1, 3], np.int32)),
        "position_ids": distant(np.array([[0, 0, 1]])),
        "seq_idx": distant(np.array([[0, 1, 1]])),
        "max_length_q": 2,
    }
    arr = from_hf_flattened(distant(np.zeros((1, 3, 4))), batch)
    assert arr.offsets is batch["cu_seq_lens_q"]
    assert arr.max_length == 2


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (
            {"cu_seq_lens_q": np.array([0, 2, 4]), "position_ids": np.array([[0, 1, 2, 0]])},
            "cu_seq_lens_q and position",
        ),
        (
            {"cu_seq_lens_q": np.array([0, 2, 4]), "position_ids": np.array([[0, 1, 2, 3]])},
            "cu_seq_lens_q and position",
        ),
        ({"cu_seq_lens_q": np.array([0, 2, 4]), "seq_idx": np.array([[0, 0, 0, 1]])}, "cu_seq_lens_q and seq_idx"),
        ({"seq_idx": np.array([[0, 0, 1, 1]]), "position_ids": np.array([[0, 1, 2, 0]])}, "seq_idx and position_ids"),
    ],
)
def test_sources_that_disagree_are_refused(sources, names):
    with pytest.raises(ShapeError, match=f"{names}.* disagree: a row begins at token [23] in one of them alone"):
        from_hf_flattened(np.zeros((1, 4)), **sources)


def test_keys_of_other_rows_are_refused():
    batch = {"cu_seq_lens_q": np.array([0, 1, 2]), "cu_seq_lens_k": np.array([0, 4, 8])}
    with pytest.raises(ShapeError, match="cu_seq_lens_q and cu_seq_lens_k differ"):
        from_hf_flattened(np.zeros((1, 2)), batch)
    with pytest.raises(ShapeError, match="cu_seq_lens_q and cu_seq_lens_k differ"):
        from_hf_flattened(np.zeros((1, 2)), batch | {"cu_seq_lens_k": np.array([0, 2])})


def test_several_positions_for_a_token_are_refused():
    with pytest.raises(ShapeError, match=r"position_ids of shape \(3, 1, 4\) .*M-RoPE.*pass cu_seq_lens_q"):
        from_hf_flattened(np.zeros((1, 4)), position_ids=np.zeros((3, 1, 4), np.int64))


def test_row_numbers_that_decrease_are_refused():
    with pytest.raises(ShapeError, match=r"seq_idx\[2\] < seq_idx\[1\].*np\.argsort\(seq_idx"):
        from_hf_flattened(np.zeros((1, 3)), seq_idx=np.array([[0, 1, 0]]))


def test_padding_marked_by_negative_row_numbers_is_refused():
    with pytest.raises(ShapeError, match="seq_idx must not be negative, got -1"):
        from_hf_flattened(np.zeros((1, 3)), seq_idx=np.array([[-1, 0, 0]]))


@pytest.mark.parametrize("name", ["position_ids", "seq_idx"])
def test_sources_of_another_length_or_dtype_are_refused(name):
    with pytest.raises(ShapeError, match=rf"{name} must have shape \(1, total\) = \(1, 3\), got \(1, 2\)"):
        from_hf_flattened(np.zeros((1, 3)), **{name: np.array([[0, 1]])})
    with pytest.raises(ShapeError, match=f"{name} must be integers, got float64"):
        from_hf_flattened(np.zeros((1, 3)), **{name: np.zeros((1, 3))})
    with pytest.raises(ArgumentTypeError, match=f"{name} must be an array, got list"):
        from_hf_flattened(np.zeros((1, 3)), **{name: [[0, 1, 2]]})


def test_offsets_that_do_not_end_with_the_values_are_refused():
    with pytest.raises(ShapeError, match=r"offsets\[-1\] \(2\) must equal"):
        from_hf_flattened(np.zeros((1, 3)), cu_seq_lens_q=np.array([0, 2], np.int32))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (3, 4)])
def test_values_without_the_axis_of_one_are_refused(shape):
    with pytest.raises(ShapeError, match=r"values must be \(1, total, \.\.\.\), got shape"):
        from_hf_flattened(np.zeros(shape), position_ids=np.array([[0, 1, 2]]))


def test_rows_that_nothing_tells_are_refused(ids):
    with pytest.raises(ArgumentError, match="nothing tells where rows begin; pass cu_seq_lens_q"):
        from_hf_flattened(np.zeros((1, 3)))
    with pytest.raises(ArgumentError, match=r"nothing tells where rows begin \(the batch has input_ids\)"):
        from_hf_flattened(np.zeros((1, 3)), {"input_ids": np.zeros((1, 3))})


def test_a_source_given_twice_is_refused(ids):
    batch = to_hf_flattened(ids)
    with pytest.raises(ArgumentError, match="position_ids is given twice"):
        from_hf_flattened(batch["input_ids"], batch, position_ids=batch["position_ids"])


def test_a_whole_batch_or_an_array_in_the_wrong_place_is_refused(ids):
    batch = to_hf_flattened(ids)
    with pytest.raises(ArgumentTypeError, match=r'values must be an array, got dict; .*batch\["input_ids"\]'):
        from_hf_flattened(batch)
    with pytest.raises(ArgumentTypeError, match="batch must be a mapping"):
        from_hf_flattened(batch["input_ids"], batch["position_ids"])
