"""The same on a GPU: Triton's kernels run, as exact as what they replace, and nothing waits for the device."""

import os
from types import SimpleNamespace

import pytest

if "transformers" not in os.environ.get("SCREE_REQUIRE", "").split(","):
    for name in ("torch", "transformers", "scree_torch"):
        pytest.importorskip(name, reason=f"{name} isn't installed")

import torch
import transformers

import scree.audit
import scree.hf

from .models import GROUPED, batch_of, left

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),  # torch says that it is a prototype
]
LARGER = GROUPED | {"hidden_size": 256, "head_dim": 64, "max_position_embeddings": 1024}
CONFIGS = {
    "llama": transformers.LlamaConfig(**LARGER),
    "mistral, window": transformers.MistralConfig(**LARGER, sliding_window=50),
    "gemma2, softcap and window": transformers.Gemma2Config(
        **LARGER, sliding_window=60, query_pre_attn_scalar=64, attn_logit_softcapping=5.0
    ),
    "gpt-oss, sinks and window": transformers.GptOssConfig(
        **LARGER, sliding_window=60, num_local_experts=4, num_experts_per_tok=2
    ),
}
LENGTHS = (200, 1, 333, 64)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    scree.hf.register()


def model_of(name):
    torch.manual_seed(0)
    implementation = "eager" if name.startswith(("gemma2", "gpt-oss")) else "sdpa"
    return transformers.AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation=implementation).eval()


def on_gpu(given):
    return {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in given.items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_logits_are_as_exact_as_padded_ones(name, dtype):
    batch, model = batch_of(LENGTHS), model_of(name)
    exact = torch.cat([model(input_ids=row[None]).logits[0] for row in batch.rows]).double()
    model = model.to("cuda", dtype)
    given = on_gpu({"input_ids": batch.ids, "attention_mask": batch.mask})
    theirs = model(**given).logits[batch.mask.bool().cuda()]
    model.set_attn_implementation("scree")
    ours = {
        "packed": model(**on_gpu(batch.packed)).logits[0],
        "positions": model(**on_gpu(batch.positions)).logits[0],
        "right": model(**given).logits[batch.mask.bool().cuda()],
        "left": model(**on_gpu(left(batch))).logits[left(batch)["attention_mask"].bool().cuda()],
    }
    least = 1e-5 * exact.abs().max()  # where both are all but exact
    off = (theirs.cpu().double() - exact).abs().mean()
    for told, got in ours.items():
        assert (got.cpu().double() - exact).abs().mean() <= 1.5 * off + least, told


def test_nothing_waits_where_lengths_are_given():
    batch = on_gpu(batch_of(LENGTHS).packed)
    total = batch["input_ids"].shape[1]
    q, k, v = (torch.randn(1, h, total, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for h in (4, 2, 2))
    module = SimpleNamespace(is_causal=True)
    lengths = {name: batch[name] for name in batch if name.startswith(("cu_seq", "max_length"))}

    def step():
        out, _ = scree.hf.scree_attention(module, q, k, v, None, **lengths)
        return torch.autograd.grad(out, (q, k, v), torch.ones_like(out))

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")  # by torch.compile
@pytest.mark.parametrize("name", ["llama", "mistral, window"])
def test_a_step_is_compiled_whole(name):
    batch, model = on_gpu(batch_of(LENGTHS).packed), model_of(name).to("cuda", torch.bfloat16)
    model.set_attn_implementation("scree")
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True)
    want = model(**batch, use_cache=False).logits
    got = compiled(**batch, use_cache=False).logits
    assert (got - want).abs().max() <= 0.05 * want.abs().max()


# ---------------------------------------------------------------------- audited


@pytest.fixture
def _deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which PyTorch asks for
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.startswith("gpt-oss")])  # experts round
def test_rows_do_not_reach_each_other(name, dtype):
    model = model_of(name).to("cuda", dtype)
    model.set_attn_implementation("scree")
    report = scree.audit.leaks(model, on_gpu(batch_of(LENGTHS).packed))
    assert not report
    assert (report.not_done, report.unmoved) == ({}, ())


def large(rows=(3000, 1100, 4000, 260)):
    """Return a layer, and a batch, for which Hopper has kernels of its own."""
    torch.manual_seed(0)
    sizes = GROUPED | {"hidden_size": 512, "head_dim": 128, "num_hidden_layers": 1, "max_position_embeddings": 8192}
    config = transformers.LlamaConfig(**sizes | {"num_attention_heads": 16, "num_key_value_heads": 4})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="scree")
    return model.to("cuda", torch.bfloat16), on_gpu(batch_of(rows).packed)


@pytest.mark.usefixtures("_deterministic")
def test_rows_do_not_reach_each_other_in_the_kernels_of_big_calls():
    report = scree.audit.leaks(*large())
    assert not report
    assert (report.not_done, report.unmoved) == ({}, ())


def test_nor_where_gradients_are_added_in_any_order():
    report = scree.audit.leaks(*large(), tolerance=1e-2)  # of the largest gradient; NaN knows no tolerance
    assert not report
    assert (report.not_done, report.unmoved) == ({}, ())


def test_rows_that_mix_are_found_on_a_gpu_too():
    model = model_of("llama").to("cuda", torch.bfloat16)
    report = scree.audit.leaks(model, on_gpu(batch_of(LENGTHS).positions), probes="change", gradients=False)
    assert {(leak.source, leak.target) for leak in report} == {(a, b) for a in range(4) for b in range(a + 1, 4)}
    assert report.origins["change", "outputs"].module == "model.layers.0.self_attn"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_pinned_memory(workers):
    data = [{"input_ids": [5] * length} for length in (3, 1, 7, 2)]
    collate = scree.hf.PackedCollator(multiple_of=8)
    loader = torch.utils.data.DataLoader(data, 2, collate_fn=collate, pin_memory=True, num_workers=workers)
    for batch in loader:
        tensors = {name: x for name, x in batch.items() if isinstance(x, torch.Tensor)}
        assert all(x.is_pinned() for x in tensors.values())
        assert isinstance(batch["max_length_q"], int)
        moved = {name: x.to("cuda", non_blocking=True) for name, x in tensors.items()}
        assert all(torch.equal(moved[name].cpu(), x) for name, x in tensors.items())
