"""The flattened batch against transformers' own collator, and through a model of torch."""

import pytest

transformers = pytest.importorskip("transformers", reason="transformers isn't installed")
torch = pytest.importorskip("torch", reason="PyTorch isn't installed")
pytest.importorskip("scree_torch", reason="scree-torch isn't installed")

import numpy as np  # noqa: E402

import scree  # noqa: E402
import scree.bridges  # noqa: E402

LENGTHS = [[1, 3, 2], [4], [1, 1, 1]]


def features(lengths, start=5):
    numbers = iter(range(start, start + sum(lengths)))
    return [{"input_ids": [next(numbers) for _ in range(length)]} for length in lengths]


def collate(rows, framework, **options):
    collator = transformers.DataCollatorWithFlattening(
        return_tensors=framework, return_flash_attn_kwargs=True, return_seq_idx=True, **options
    )
    return collator(rows)


def arrays(rows, framework, key="input_ids"):
    make = np.asarray if framework == "np" else torch.tensor
    return scree.pack([make(row[key]) for row in rows])


def check_equal(ours, theirs):
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        if isinstance(value, int):
            assert type(ours[name]) is int
            assert ours[name] == value
        else:
            assert ours[name].dtype == value.dtype, name
            assert ours[name].shape == value.shape, name
            assert ours[name].tolist() == value.tolist(), name


@pytest.mark.parametrize("framework", ["np", "pt"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("options", [{}, {"separator_id": -1}, {"position_ids_start": 2}])
def test_the_batch_is_the_collators(framework, lengths, options):
    rows = features(lengths)
    ids = arrays(rows, framework)
    check_equal(
        scree.bridges.to_hf_flattened(ids, labels=ids, return_seq_idx=True, **options),
        collate(rows, framework, **options),
    )


@pytest.mark.parametrize("framework", ["np", "pt"])
def test_labels_of_their_own_are_the_collators(framework):
    rows = features([1, 3, 2])
    for row in rows:
        row["labels"] = [token * 10 for token in row["input_ids"]]
    ours = scree.bridges.to_hf_flattened(
        arrays(rows, framework), arrays(rows, framework, "labels"), return_seq_idx=True
    )
    check_equal(ours, collate(rows, framework))


@pytest.mark.parametrize("framework", ["np", "pt"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("source", ["cu_seq_lens_q", "position_ids", "seq_idx"])
@pytest.mark.parametrize("start", [0, 2])
def test_every_source_of_the_collators_batch_tells_the_rows(framework, lengths, source, start):
    batch = collate(features(lengths), framework, position_ids_start=start)
    for arr in (
        scree.bridges.from_hf_flattened(batch["input_ids"], batch),
        scree.bridges.from_hf_flattened(batch["input_ids"], **{source: batch[source]}),
    ):
        assert arr.lengths.tolist() == lengths
        assert arr.values.tolist() == batch["input_ids"][0].tolist()


def test_a_batch_of_positions_alone_tells_the_rows():
    batch = transformers.DataCollatorWithFlattening()(features([1, 3, 2]))
    assert "cu_seq_lens_q" not in batch
    assert scree.bridges.from_hf_flattened(batch["input_ids"], batch).lengths.tolist() == [1, 3, 2]


def test_tensors_share_memory_and_gradients_flow_back():
    ids = scree.from_lengths(torch.arange(6), [1, 3, 2])
    batch = scree.bridges.to_hf_flattened(ids)
    assert batch["input_ids"].data_ptr() == ids.values.data_ptr()
    assert batch["cu_seq_lens_q"] is ids.offsets
    hidden = torch.ones(1, 6, 4, requires_grad=True)
    arr = scree.bridges.from_hf_flattened(hidden, batch)
    assert arr.values.data_ptr() == hidden.data_ptr()
    (arr * 3).values.sum().backward()
    assert (hidden.grad == 3).all()


def test_bfloat16_results_are_wrapped_as_they_are():
    batch = scree.bridges.to_hf_flattened(scree.from_lengths(torch.arange(3), [1, 2]))
    arr = scree.bridges.from_hf_flattened(torch.ones(1, 3, 2, dtype=torch.bfloat16), batch)
    assert arr.dtype == torch.bfloat16


def test_a_model_gives_each_row_what_it_gives_it_alone():
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    ids = scree.from_lengths(torch.tensor([5, 6, 7, 8, 9, 10]), [1, 3, 2])
    with torch.no_grad():
        batch = scree.bridges.to_hf_flattened(ids)
        logits = scree.bridges.from_hf_flattened(model(**batch, use_cache=False).logits, batch)
        for row, alone in zip(scree.unpack(logits), scree.unpack(ids), strict=True):
            torch.testing.assert_close(row, model(input_ids=alone[None], use_cache=False).logits[0])
