"""How each bridge is crossed for the table of ``docs/bridges.md``, and where values and offsets are on both sides.

A new bridge gets an entry here for each direction: ``test_table.py`` asks for it.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import scree

b = scree.bridges


class Sides(NamedTuple):
    """The arrays before and behind a bridge; None where there are none."""

    values: tuple[Any, Any]
    offsets: tuple[Any, Any]
    """Offsets, or whatever else tells the rows: lengths, a mask, row numbers."""


class Crossing(NamedTuple):
    """A line of the table."""

    system: str
    direction: str
    bridge: str
    distribution: str
    """Whose version the line has."""
    modules: tuple[str, ...]
    source: str
    """Of which library values and offsets are made: numpy, torch, "torch ids" (token ids) or jax."""
    cross: Callable[[Any, Any], Sides]

    @property
    def key(self) -> tuple[str, str]:
        """What no two lines have in common."""
        return self.system, self.direction

    def __str__(self) -> str:
        return f"{self.system} {self.direction}"


CROSSINGS: list[Crossing] = []
"""In the order of the table."""

NO_CROSSINGS = {
    "convert": "the section 'Between array libraries' has a table of every pair, which test_convert.py holds",
    "ServingBatch": "what from_vllm and from_sglang return",
}
"""The names of ``scree.bridges`` without a line, and why."""

MODULES = {"numpy": ("numpy",), "torch": ("torch", "scree_torch"), "jax": ("jax", "scree_jax")}


def crossing(
    system: str, direction: str, bridge: str, distribution: str, *modules: str, source: str = "numpy"
) -> Callable[[Any], Any]:
    """Make a function the line of a system and a direction."""

    def keep(cross: Any) -> Any:
        needed = (*MODULES[source.split()[0]], *modules)
        CROSSINGS.append(Crossing(system, direction, bridge, distribution, needed, source, cross))
        return cross

    return keep


# ------------------------------------------------------------------ array libraries


@crossing("NumPy", "there", "to_numpy", "numpy", source="torch")
def to_numpy(x, offsets):
    found = b.to_numpy(scree.Array(x, offsets))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("PyTorch", "there", "to_torch", "torch", "torch", "scree_torch")
def to_torch(x, offsets):
    found = b.to_torch(scree.Array(x, offsets))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("JAX", "there", "to_jax", "jax", "jax", "scree_jax", source="torch")
def to_jax(x, offsets):
    found = b.to_jax(scree.Array(x, offsets))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("MLX", "there", "to_mlx", "mlx", "mlx", "scree_mlx", source="torch")
def to_mlx(x, offsets):
    found = b.to_mlx(scree.Array(x, offsets))
    return Sides((x, found.values), (offsets, found.offsets))


# ------------------------------------------------------------------ attention


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


# ------------------------------------------------------------------ Hugging Face


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


# ------------------------------------------------------------------ PyTorch, and what is built on it


@crossing("PyTorch's nested tensors", "there", "to_torch_nested", "torch", source="torch")
def to_torch_nested(x, offsets):
    nested = b.to_torch_nested(scree.Array(x, offsets))
    return Sides((x, nested.values()), (offsets, nested.offsets()))


@crossing("PyTorch's nested tensors", "back", "from_torch_nested", "torch", source="torch")
def from_torch_nested(x, offsets):
    import torch

    nested = torch.nested.nested_tensor_from_jagged(x, offsets)
    found = b.from_torch_nested(nested)
    return Sides((x, found.values), (nested.offsets(), found.offsets))


@crossing("PyTorch's packed sequences", "there", "to_packed_sequence", "torch", source="torch")
def to_packed_sequence(x, offsets):
    packed = b.to_packed_sequence(scree.Array(x, offsets))
    return Sides((x, packed.data), (offsets, packed.batch_sizes))


@crossing("PyTorch's packed sequences", "back", "from_packed_sequence", "torch", source="torch")
def from_packed_sequence(x, offsets):
    from torch.nn.utils.rnn import pack_sequence

    packed = pack_sequence(scree.unpack(scree.Array(x, offsets)), enforce_sorted=False)
    found = b.from_packed_sequence(packed)
    return Sides((packed.data, found.values), (packed.batch_sizes, found.offsets))


@crossing("TorchRec", "there", "to_torchrec", "torchrec", "torchrec", "fbgemm_gpu", source="torch")
def to_torchrec(x, offsets):
    jagged = b.to_torchrec(scree.Array(x, offsets))
    return Sides((x, jagged.values()), (offsets, jagged.offsets()))


@crossing("TorchRec", "back", "from_torchrec", "torchrec", "torchrec", "fbgemm_gpu", source="torch")
def from_torchrec(x, offsets):
    from torchrec.sparse.jagged_tensor import JaggedTensor

    found = b.from_torchrec(JaggedTensor(x, offsets=offsets))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("FBGEMM", "back", "scree.from_cu_seqlens", "fbgemm-gpu-cpu", "fbgemm_gpu", source="torch")
def from_fbgemm(x, offsets):
    import fbgemm_gpu  # noqa: F401  # which registers the operators
    import torch

    padded = torch.ops.fbgemm.jagged_to_padded_dense(x, [offsets], [3])
    values, (same,) = torch.ops.fbgemm.dense_to_jagged(padded, [offsets])
    found = scree.from_cu_seqlens(values, same)
    return Sides((values, found.values), (same, found.offsets))


@crossing("PyTorch Geometric", "there", "to_pyg", "torch-geometric", "torch_geometric", source="torch")
def to_pyg(x, offsets):
    from torch_geometric.data import Batch

    batch = Batch(**b.to_pyg(scree.Array(x, offsets)))
    return Sides((x, batch.x), (offsets, batch.ptr))


@crossing("PyTorch Geometric", "back", "from_pyg", "torch-geometric", "torch_geometric", source="torch")
def from_pyg(x, offsets):
    from torch_geometric.data import Batch, Data

    batch = Batch.from_data_list([Data(x=row) for row in scree.unpack(scree.Array(x, offsets))])
    found = b.from_pyg(batch)
    return Sides((batch.x, found.values), (batch.ptr, found.offsets))


# ------------------------------------------------------------------ JAX


def graph_of(**parts):
    import jraph

    nothing = dict.fromkeys(("edges", "receivers", "senders", "globals", "n_edge"))
    return jraph.GraphsTuple(**nothing, **parts)


@crossing("jraph", "there", "to_jraph", "jraph", "jraph", source="jax")
def to_jraph(x, offsets):
    graph = graph_of(**b.to_jraph(scree.Array(x, offsets)))
    return Sides((x, graph.nodes), (offsets, graph.n_node))


@crossing("jraph", "back", "from_jraph", "jraph", "jraph", source="jax")
def from_jraph(x, offsets):
    graph = graph_of(nodes=x, n_node=offsets[1:] - offsets[:-1])
    found = b.from_jraph(graph)
    return Sides((x, found.values), (graph.n_node, found.offsets))


# ------------------------------------------------------------------ serving engines


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


# ------------------------------------------------------------------ tables and other ragged arrays


@crossing("Arrow", "there", "to_arrow", "pyarrow", "pyarrow")
def to_arrow(x, offsets):
    lists = b.to_arrow(scree.Array(x, offsets))
    return Sides((x, lists.values.values.to_numpy()), (offsets, lists.offsets.to_numpy()))


@crossing("Arrow", "back", "from_arrow", "pyarrow", "pyarrow")
def from_arrow(x, offsets):
    lists = b.to_arrow(scree.Array(x.copy(), offsets.copy()))
    found = b.from_arrow(lists)
    return Sides((lists.values.values.to_numpy(), found.values), (lists.offsets.to_numpy(), found.offsets))


@crossing("Parquet", "back", "from_parquet", "pyarrow", "pyarrow")
def from_parquet(x, offsets):
    import pyarrow
    import pyarrow.parquet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        pyarrow.parquet.write_table(pyarrow.table({"x": b.to_arrow(scree.Array(x, offsets))}), path)
        (found,) = b.from_parquet(path, "x")
    return Sides((None, found.values), (None, found.offsets))


@crossing("Awkward", "there", "to_awkward", "awkward", "awkward")
def to_awkward(x, offsets):
    layout = b.to_awkward(scree.Array(x, offsets)).layout
    return Sides((x, layout.content.content.data), (offsets, layout.offsets.data))


@crossing("Awkward", "back", "from_awkward", "awkward", "awkward")
def from_awkward(x, offsets):
    import awkward as ak

    kind = ak.index.Index32 if offsets.dtype == "int32" else ak.index.Index64
    content = ak.contents.RegularArray(ak.contents.NumpyArray(x.reshape(-1)), 2)
    found = b.from_awkward(ak.Array(ak.contents.ListOffsetArray(kind(offsets), content)))
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("TensorFlow", "there", "to_tf_ragged", "tensorflow-cpu", "tensorflow")
def to_tf_ragged(x, offsets):
    import numpy as np

    ragged = b.to_tf_ragged(scree.Array(x, offsets))
    return Sides((x, np.asarray(ragged.values)), (offsets, np.asarray(ragged.row_splits)))


@crossing("TensorFlow", "back", "from_tf_ragged", "tensorflow-cpu", "tensorflow")
def from_tf_ragged(x, offsets):
    import numpy as np
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_row_splits(tf.constant(x), tf.constant(offsets))
    found = b.from_tf_ragged(ragged)
    # Tensor.numpy() would copy.
    return Sides((np.asarray(ragged.values), found.values), (np.asarray(ragged.row_splits), found.offsets))


# ------------------------------------------------------------------ files, lists, row numbers


@crossing("safetensors", "there", "save", "safetensors", "safetensors")
def save_safetensors(x, offsets):
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.safetensors")
        b.save(path, scree.Array(x, offsets))
        found = load_file(path)
    return Sides((x, found["values"]), (offsets, found["offsets"]))


@crossing("safetensors", "back", "load", "safetensors", "safetensors")
def load_safetensors(x, offsets):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.safetensors")
        b.save(path, scree.Array(x, offsets))
        found = b.load(path)
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("`.npz`", "there", "save", "numpy")
def save_npz(x, offsets):
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npz")
        b.save(path, scree.Array(x, offsets))
        with np.load(path) as file:
            found = dict(file)
    return Sides((x, found["values"]), (offsets, found["offsets"]))


@crossing("`.npz`", "back", "load", "numpy")
def load_npz(x, offsets):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npz")
        b.save(path, scree.Array(x, offsets))
        found = b.load(path)
    return Sides((x, found.values), (offsets, found.offsets))


@crossing("lists of arrays", "there", "scree.unpack", "torch", source="torch")
def unpack(x, offsets):
    return Sides((x, scree.unpack(scree.Array(x, offsets))[0]), (offsets, None))


@crossing("lists of arrays", "back", "scree.pack", "torch", source="torch")
def pack(x, offsets):
    first, second = x[:2], x[2:]
    found = scree.pack([first, second])
    return Sides((first, found.values), (None, found.offsets))


@crossing("segment ids", "there", "arr.segment_ids", "torch", source="torch")
def to_segment_ids(x, offsets):
    return Sides((x, None), (offsets, scree.Array(x, offsets).segment_ids))


@crossing("segment ids", "back", "scree.from_segment_ids", "torch", source="torch")
def from_segment_ids(x, offsets):
    ids = scree.Array(x, offsets).segment_ids
    found = scree.from_segment_ids(x, ids)
    return Sides((x, found.values), (ids, found.offsets))
