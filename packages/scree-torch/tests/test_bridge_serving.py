"""What serving engines know of a step: rows, slots, and attention over a paged cache."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import scree_core as scree
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_torch.bridges import ServingBatch, from_sglang, from_vllm, to_sglang, to_vllm

NEW, KEYS, SIZE = [3, 1, 0, 5], [7, 4, 2, 5], 4
"""New tokens and keys of four requests, and the tokens of a block: a chunk, a step of decoding, nothing, a prompt."""
TABLE = torch.tensor([[5, 2], [0, 9], [7, 9], [1, 3]], dtype=torch.int32)
SLOTS = [8, 9, 10, 3, 4, 5, 6, 7, 12]
"""By hand: row 0 has its keys 4 to 6 in block 2, row 1 its key 3 in block 0, row 3 its keys in blocks 1 and 3."""
POSITIONS = [4, 5, 6, 3, 0, 1, 2, 3, 4]
ALL_SLOTS = [20, 21, 22, 23, 8, 9, 10, 0, 1, 2, 3, 28, 29, 4, 5, 6, 7, 12]


def offsets_of(lengths):
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)


def metadata(**changed):
    """Return what vLLM would tell, as far as its fields go."""
    offsets = offsets_of(NEW)
    fields = {
        "query_start_loc": offsets,
        "query_start_loc_cpu": offsets,
        "seq_lens": torch.tensor(KEYS, dtype=torch.int32),
        "num_reqs": 4,
        "num_actual_tokens": sum(NEW),
        "max_query_len": 5,
        "max_seq_len": 7,
        "block_table_tensor": TABLE,
        "slot_mapping": torch.tensor(SLOTS),
        "causal": True,
    }
    return SimpleNamespace(**fields | changed)


@pytest.fixture
def batch():
    return from_vllm(metadata(), block_size=SIZE)


def test_vllms_tensors_are_taken_as_they_are():
    given = metadata()
    batch = from_vllm(given, block_size=SIZE)
    for ours, theirs in (
        (batch.queries.offsets, given.query_start_loc),
        (batch.key_lengths, given.seq_lens),
        (batch.slots, given.slot_mapping),
        (batch.block_table, given.block_table_tensor),
    ):
        assert ours.data_ptr() == theirs.data_ptr()
    assert (batch.batch_size, batch.queries.total, batch.queries.max_length, batch.max_key_length) == (4, 9, 5, 7)
    assert batch.causal is True


def test_positions_go_on_where_the_cache_ends(batch):
    assert batch.context_lengths.tolist() == [4, 3, 2, 0]
    assert batch.positions.tolist() == POSITIONS


def test_slots_are_those_of_the_block_table(batch):
    assert batch.new_slots().tolist() == SLOTS == batch.slots.tolist()
    keys = batch.key_slots()
    assert keys.lengths.tolist() == KEYS
    assert keys.values.tolist() == ALL_SLOTS


def test_attention_over_the_cache_is_attention_over_the_rows(batch):
    generator = torch.Generator().manual_seed(0)
    cache = torch.randn(2, 40, 2, 8, generator=generator, dtype=torch.float64)
    cache_k, cache_v = cache
    q = scree.Array.trusted(torch.randn(9, 2, 8, generator=generator, dtype=torch.float64), batch.queries)
    slots = batch.key_slots()
    k, v = (slots.with_values(part[slots.values]) for part in (cache_k, cache_v))
    got = scree.varlen_attention(q, k, v, causal=batch.causal).values
    rows = zip(q.values.split(NEW), k.values.split(KEYS), v.values.split(KEYS), strict=True)
    for (queries, keys, values), out in zip(rows, got.split(NEW), strict=True):
        scores = torch.einsum("qhd,khd->hqk", queries, keys) * 8**-0.5
        shift = keys.shape[0] - queries.shape[0]
        scores = scores.masked_fill(torch.ones(scores.shape[1:]).triu(shift + 1).bool(), -torch.inf)
        want = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values)
        torch.testing.assert_close(out, want)


def test_rows_and_tokens_beyond_those_that_count_are_left_out():
    padded = metadata(
        query_start_loc=torch.tensor([0, 3, 4, 4, 9, 9, 9], dtype=torch.int32),
        query_start_loc_cpu=torch.tensor([0, 3, 4, 4, 9, 9, 9], dtype=torch.int32),
        seq_lens=torch.tensor([*KEYS, 0, 0], dtype=torch.int32),
        block_table_tensor=torch.cat([TABLE, TABLE]),
        slot_mapping=torch.tensor([*SLOTS, -1, -1, -1]),
    )
    batch = from_vllm(padded, block_size=SIZE)
    assert batch.batch_size == batch.key_lengths.shape[0] == batch.block_table.shape[0] == 4
    assert batch.slots.tolist() == SLOTS


def test_tokens_behind_the_last_row_are_a_tail():
    batch = from_vllm(metadata(num_actual_tokens=12, slot_mapping=torch.tensor([*SLOTS, -1, -1, -1])), block_size=SIZE)
    assert batch.queries.tail
    assert batch.positions.tolist() == [*POSITIONS, 0, 0, 0]
    assert batch.new_slots().tolist() == [*SLOTS, -1, -1, -1] == batch.slots.tolist()


def test_what_came_from_vllm_goes_back(batch):
    given, back = metadata(), to_vllm(batch)
    assert set(back) == set(vars(given))
    for name, value in back.items():
        want = getattr(given, name)
        assert torch.equal(value, want) if isinstance(want, torch.Tensor) else value == want
    assert back["query_start_loc_cpu"].device.type == "cpu"


def test_what_the_host_does_not_know_is_measured():
    unknown = scree.Layout(offsets_of(NEW), total=9)
    batch = ServingBatch(
        scree.Layout.trusted(unknown.offsets, total=9), torch.tensor(KEYS), torch.tensor(SLOTS), TABLE, SIZE
    )
    back = to_vllm(batch)
    assert (back["max_query_len"], back["max_seq_len"], back["num_actual_tokens"]) == (5, 7, 9)


def test_a_step_without_requests_has_no_slots():
    nothing = torch.zeros(1, dtype=torch.int32)
    empty = metadata(
        query_start_loc=nothing, query_start_loc_cpu=nothing, num_reqs=0, num_actual_tokens=0, max_query_len=0
    )
    batch = from_vllm(empty, block_size=SIZE)
    assert batch.positions.tolist() == batch.new_slots().tolist() == batch.key_slots().values.tolist() == []


@pytest.mark.parametrize("name", ["seq_lens", "slot_mapping"])
def test_a_renamed_field_is_named_with_the_versions_known(name):
    fields = vars(metadata())
    del fields[name]
    with pytest.raises(ArgumentTypeError, match=rf"no {name}: scree reads the CommonAttentionMetadata of vllm 0\.33"):
        from_vllm(SimpleNamespace(**fields))


def test_too_few_rows_are_refused():
    with pytest.raises(ShapeError, match="num_reqs is 5, but query_start_loc has 5 and seq_lens 4"):
        from_vllm(metadata(num_reqs=5))


def test_rows_that_differ_in_causal_are_refused():
    with pytest.raises(ArgumentError, match="causal is a tensor"):
        from_vllm(metadata(causal=torch.ones(4, dtype=torch.bool)))


def test_without_a_block_size_nobody_knows_the_slots():
    with pytest.raises(ArgumentError, match="has no block_size"):
        from_vllm(metadata()).new_slots()
    with pytest.raises(ArgumentError, match="has no block_table"):
        ServingBatch(scree.Layout(offsets_of(NEW), total=9), torch.tensor(KEYS)).key_slots()


@pytest.mark.parametrize("name", ["block_table", "slots"])
def test_vllm_needs_a_table_and_slots(batch, name):
    fields = {f: getattr(batch, f) for f in ("queries", "key_lengths", "slots", "block_table")} | {name: None}
    with pytest.raises(ArgumentError, match=f"batch has no {name}, which vLLM needs"):
        to_vllm(ServingBatch(**fields))


@pytest.mark.parametrize("way", [to_vllm, to_sglang])
def test_only_a_serving_batch_goes_to_an_engine(way):
    with pytest.raises(ArgumentTypeError, match=r"must be a scree\.bridges\.ServingBatch, got int"):
        way(1)


# ---------------------------------------------------------------------- SGLang


def forward_batch(mode="EXTEND", **changed):
    """Return what SGLang would tell of a step that extends rows."""
    fields = {
        "forward_mode": SimpleNamespace(name=mode),
        "batch_size": 4,
        "req_pool_indices": torch.tensor([2, 0, 1, 3]),
        "seq_lens": torch.tensor(KEYS),
        "out_cache_loc": torch.tensor(SLOTS),
        "extend_start_loc": offsets_of(NEW)[:-1],
        "extend_num_tokens": 9,
        "encoder_lens": None,
    }
    return SimpleNamespace(**fields | changed)


def pool():
    """Return the slots of each token of each request, as SGLang's pool has them."""
    tokens = torch.full((4, 8), -1, dtype=torch.int32)
    for row, (request, length) in enumerate(zip([2, 0, 1, 3], KEYS, strict=True)):
        tokens[request, :length] = torch.tensor(ALL_SLOTS[sum(KEYS[:row]) : sum(KEYS[: row + 1])])
    return tokens


@pytest.mark.parametrize("mode", ["EXTEND", "MIXED", "SPLIT_PREFILL"])
def test_an_extending_step_of_sglang_is_read(mode):
    batch = from_sglang(forward_batch(mode), req_to_token=pool())
    assert batch.queries.offsets.tolist() == [0, 3, 4, 4, 9]
    assert batch.positions.tolist() == POSITIONS
    assert batch.new_slots().tolist() == SLOTS == batch.slots.tolist()
    assert batch.key_slots().values.tolist() == ALL_SLOTS


def test_a_decoding_step_of_sglang_has_one_token_for_each_row():
    keys = [length for length, new in zip(KEYS, NEW, strict=True) if new]
    given = forward_batch(
        "DECODE",
        batch_size=3,
        seq_lens=torch.tensor(keys),
        req_pool_indices=torch.tensor([2, 0, 3]),
        out_cache_loc=torch.tensor([10, 3, 12]),
        extend_start_loc=None,
        extend_num_tokens=None,
    )
    batch = from_sglang(given, req_to_token=pool())
    assert batch.queries.offsets.tolist() == [0, 1, 2, 3]
    assert batch.positions.tolist() == [6, 3, 4]
    assert batch.new_slots().tolist() == [10, 3, 12]


@pytest.mark.parametrize("mode", ["IDLE", "TARGET_VERIFY", "DLLM_EXTEND"])
def test_other_steps_of_sglang_are_refused_by_name(mode):
    with pytest.raises(ArgumentError, match=f"forward_mode is {mode}"):
        from_sglang(forward_batch(mode))


def test_the_keys_of_an_encoder_are_refused():
    with pytest.raises(ArgumentError, match="encoder_lens"):
        from_sglang(forward_batch(encoder_lens=torch.tensor([1, 1, 1, 1])))


def test_a_renamed_field_of_sglang_is_named():
    fields = vars(forward_batch())
    del fields["extend_start_loc"]
    with pytest.raises(
        ArgumentTypeError, match=r"no extend_start_loc: scree reads the ForwardBatch of sglang 0\.5\.23"
    ):
        from_sglang(SimpleNamespace(**fields))


def test_a_batch_goes_to_sglang(batch):
    back = to_sglang(batch)
    given = forward_batch()
    for name in ("seq_lens", "out_cache_loc", "extend_start_loc"):
        assert back[name].tolist() == getattr(given, name).tolist()
    assert (back["batch_size"], back["extend_num_tokens"], back["seq_lens_sum"]) == (4, 9, sum(KEYS))
    assert back["extend_seq_lens"].tolist() == NEW
    assert back["extend_prefix_lens"].tolist() == [4, 3, 2, 0]
    assert back["positions"].tolist() == POSITIONS


def test_a_tail_is_cut_off_on_the_way_to_sglang():
    batch = from_vllm(metadata(num_actual_tokens=12, slot_mapping=torch.tensor([*SLOTS, -1, -1, -1])), block_size=SIZE)
    back = to_sglang(batch)
    assert back["extend_num_tokens"] == 9
    assert back["out_cache_loc"].tolist() == SLOTS
    assert back["positions"].tolist() == POSITIONS


def test_sglang_needs_slots(batch):
    with pytest.raises(ArgumentError, match="batch has no slots, which SGLang needs"):
        to_sglang(ServingBatch(batch.queries, batch.key_lengths))
