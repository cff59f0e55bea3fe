"""What models take: attention functions, Hugging Face's batches, and steps of serving engines."""

import inspect
from types import SimpleNamespace

import scree

from .crossing import Sides, crossing

b = scree.bridges


@crossing("FlashAttention and its like", "there", "flash_attn_kwargs", "torch", source="torch")
def flash_attn_kwargs(x, offsets):
    from torch.nn.attention.varlen import varlen_attn

    told = b.flash_attn_kwargs(scree.Array(x, offsets), flavour="torch")
    taken = inspect.signature(varlen_attn).bind(x, x, x, **told).arguments
    return Sides((x, None), (offsets, taken["cu_seq_q"]))


@crossing("FlashAttention and its like", "back", "scree.from_cu_seqlens", "torch", source="torch")
def from_cu_seqlens(x, offsets):
    found = scree.from_cu_seqlens(x, offsets)
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("FlexAttention's block masks", "there", "to_block_mask", "torch", source="torch")
def to_block_mask(x, offsets):
    return Sides((x, None), (offsets, b.to_block_mask(scree.Array(x, offsets)).kv_num_blocks))


@crossing("xFormers", "there", "to_xformers", "xformers", "xformers", source="torch")
def to_xformers(x, offsets):
    return Sides((x, None), (offsets, b.to_xformers(scree.Array(x, offsets)).q_seqinfo.seqstart))


@crossing("xFormers", "back", "from_xformers", "xformers", "xformers", source="torch")
def from_xformers(x, offsets):
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    bias = BlockDiagonalMask.from_seqlens(offsets.diff().tolist())
    found = b.from_xformers(x[None], bias)
    return Sides((x, found.values), (bias.q_seqinfo.seqstart, found.offsets))


@crossing("Hugging Face, padded", "there", "to_hf_padded", "transformers", "transformers", source="torch")
def to_hf_padded(x, offsets):
    from transformers import BatchFeature

    padded, mask = b.to_hf_padded(scree.Array(x, offsets))
    batch = BatchFeature({"inputs_embeds": padded, "attention_mask": mask})
    return Sides((x, batch["inputs_embeds"]), (offsets, batch["attention_mask"]))


@crossing("Hugging Face, padded", "back", "from_hf_padded", "transformers", "transformers", source="torch")
def from_hf_padded(x, offsets):
    from transformers import BatchFeature

    padded, mask = scree.to_padded(scree.Array(x, offsets))
    batch = BatchFeature({"last_hidden_state": padded, "attention_mask": mask.long()})
    found = b.from_hf_padded(batch["last_hidden_state"], batch["attention_mask"])
    return Sides((padded, found.values), (batch["attention_mask"], found.offsets))


@crossing("Hugging Face, flattened", "there", "to_hf_flattened", "transformers", "transformers", source="torch ids")
def to_hf_flattened(x, offsets):
    from transformers import BatchFeature

    batch = BatchFeature(b.to_hf_flattened(scree.Array(x, offsets)))
    return Sides((x, batch["input_ids"]), (offsets, batch["cu_seq_lens_q"]))


@crossing("Hugging Face, flattened", "back", "from_hf_flattened", "transformers", "transformers", source="torch")
def from_hf_flattened(x, offsets):
    from transformers import DataCollatorWithFlattening

    rows = [{"input_ids": row.tolist()} for row in scree.unpack(scree.Array(x[:, 0].long(), offsets))]
    batch = DataCollatorWithFlattening(return_flash_attn_kwargs=True)(rows)
    found = b.from_hf_flattened(x[None], batch)
    return Sides((x, found.values), (batch["cu_seq_lens_q"], found.offsets))


def vllm_metadata(offsets):
    import torch
    from vllm.v1.attention.backend import CommonAttentionMetadata

    return CommonAttentionMetadata(
        query_start_loc=offsets,
        query_start_loc_cpu=offsets,
        seq_lens=torch.tensor([4, 6], dtype=torch.int32),
        num_reqs=2,
        num_actual_tokens=5,
        max_query_len=3,
        max_seq_len=6,
        block_table_tensor=torch.tensor([[0], [1]], dtype=torch.int32),
        slot_mapping=torch.arange(5),
    )


@crossing("vLLM", "there", "to_vllm", "vllm", "vllm", source="torch")
def to_vllm(x, offsets):
    metadata = vllm_metadata(offsets)
    back = type(metadata)(**b.to_vllm(b.from_vllm(metadata, block_size=8)))
    return Sides((metadata.slot_mapping, back.slot_mapping), (offsets, back.query_start_loc))


@crossing("vLLM", "back", "from_vllm", "vllm", "vllm", source="torch")
def from_vllm(x, offsets):
    metadata = vllm_metadata(offsets)
    batch = b.from_vllm(metadata, block_size=8)
    return Sides((metadata.slot_mapping, batch.slots), (offsets, batch.queries.offsets))


# Importing SGLang takes a GPU's libraries. test_sglang.py finds these fields in its source.
def sglang_batch(offsets):
    import torch

    return SimpleNamespace(
        forward_mode=SimpleNamespace(name="EXTEND"),
        batch_size=2,
        req_pool_indices=torch.arange(2),
        seq_lens=torch.tensor([4, 6]),
        out_cache_loc=torch.arange(5),
        extend_start_loc=offsets[:-1],
        extend_num_tokens=5,
    )


@crossing("SGLang (a stand-in)", "there", "to_sglang", "sglang", "sglang", source="torch")
def to_sglang(x, offsets):
    batch = b.from_sglang(sglang_batch(offsets))
    fields = b.to_sglang(batch)
    return Sides((batch.slots, fields["out_cache_loc"]), (batch.queries.offsets, fields["extend_start_loc"]))


@crossing("SGLang (a stand-in)", "back", "from_sglang", "sglang", "sglang", source="torch")
def from_sglang(x, offsets):
    theirs = sglang_batch(offsets)
    batch = b.from_sglang(theirs)
    return Sides((theirs.out_cache_loc, batch.slots), (theirs.extend_start_loc, batch.queries.offsets))
