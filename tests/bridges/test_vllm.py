"""vLLM's own metadata of a step, there and back."""

import dataclasses

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm", reason="vLLM isn't installed")

import scree  # noqa: E402


def made(**changed):
    from vllm.v1.attention.backend import CommonAttentionMetadata

    offsets = torch.tensor([0, 3, 4, 4, 9], dtype=torch.int32)
    fields = {
        "query_start_loc": offsets,
        "query_start_loc_cpu": offsets,
        "seq_lens": torch.tensor([7, 4, 2, 5], dtype=torch.int32),
        "num_reqs": 4,
        "num_actual_tokens": 9,
        "max_query_len": 5,
        "max_seq_len": 7,
        "block_table_tensor": torch.tensor([[5, 2], [0, 9], [7, 9], [1, 3]], dtype=torch.int32),
        "slot_mapping": torch.tensor([8, 9, 10, 3, 4, 5, 6, 7, 12]),
    }
    return CommonAttentionMetadata(**fields | changed)


@pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported
def test_the_metadata_is_read_and_made_again():
    metadata = made()
    batch = scree.bridges.from_vllm(metadata, block_size=4)
    assert batch.new_slots().tolist() == metadata.slot_mapping.tolist()
    assert batch.context_lengths.tolist() == metadata.compute_num_computed_tokens().tolist()
    back = type(metadata)(**scree.bridges.to_vllm(batch))
    for field in dataclasses.fields(back):
        if not field.name.startswith("_"):  # what it keeps for itself
            ours, theirs = getattr(back, field.name), getattr(metadata, field.name)
            assert torch.equal(ours, theirs) if isinstance(theirs, torch.Tensor) else ours == theirs, field.name


@pytest.mark.filterwarnings("ignore")
def test_padded_metadata_is_read_as_vllm_reads_it():
    offsets = torch.tensor([0, 3, 4, 4, 9, 9], dtype=torch.int32)
    table = torch.tensor([[5, 2], [0, 9], [7, 9], [1, 3], [0, 0]], dtype=torch.int32)
    lengths = torch.tensor([7, 4, 2, 5, 0], dtype=torch.int32)
    slots = torch.tensor([8, 9, 10, 3, 4, 5, 6, 7, 12, -1, -1])
    padded = made(
        query_start_loc=offsets, query_start_loc_cpu=offsets, seq_lens=lengths, block_table_tensor=table,
        slot_mapping=slots, num_reqs=5, num_actual_tokens=11,
    )  # fmt: skip
    plain = padded.unpadded(9, 4)
    batch = scree.bridges.from_vllm(plain, block_size=4)
    assert batch.queries.offsets.tolist() == [0, 3, 4, 4, 9]
    assert batch.new_slots().tolist() == slots[:9].tolist()
    with_tail = scree.bridges.from_vllm(padded, block_size=4)
    assert with_tail.queries.tail
    assert with_tail.new_slots().tolist() == slots.tolist()
