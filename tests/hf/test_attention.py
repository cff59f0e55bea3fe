"""Models of transformers on scree's attention: packed rows give what padded ones do, and what can't be isn't silent."""

import os

import pytest

if "transformers" not in os.environ.get("SCREE_REQUIRE", "").split(","):
    pytest.importorskip("transformers", reason="transformers isn't installed")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("scree_torch")

from scree_core.errors import ShapeError, UnsupportedError  # noqa: E402
from scree_torch.transformers import rows as rows_module  # noqa: E402

from .models import GROUPED, SIZES, batch_of, build, config_of, left, needs, on_scree  # noqa: E402

pytestmark = pytest.mark.usefixtures("registered", "models_of_float64_compute_in_it")
DECODERS = {
    "llama": ("LlamaConfig", GROUPED),
    "mistral, window": ("MistralConfig", GROUPED | {"sliding_window": 5}),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", GROUPED),
    "gemma2, softcap and window": (
        "Gemma2Config",
        GROUPED | {"sliding_window": 6, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0},
    ),
    "gpt-oss, sinks and window": (
        "GptOssConfig",
        GROUPED | {"sliding_window": 6, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
}
EAGER = ("gemma2, softcap and window", "gpt-oss, sinks and window")
"""Those that sdpa can't do."""
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.fixture
def batch():
    return batch_of()


def decoder(name, dtype=torch.float64):
    config = config_of(*DECODERS[name])
    return build(transformers.AutoModelForCausalLM, config, "eager" if name in EAGER else "sdpa", dtype)


def encoder(name, **options):
    return build(transformers.AutoModel, config_of(name, SIZES | options))


def alone(model, batch):
    """Return each row's logits in a call of its own, joined."""
    return torch.cat([model(input_ids=row[None], use_cache=False).logits[0] for row in batch.rows])


def padded(model, batch):
    return model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits[batch.mask.bool()]


def far(got, want):
    """Return how far off a result is, relative to the largest number where there are larger ones than 1."""
    return ((got - want).abs().max() / want.abs().max().clamp(min=1)).item()


@pytest.mark.parametrize("use_cache", [False, True], ids=["", "with a cache"])
@pytest.mark.parametrize("told", ["packed", "positions"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", DECODERS)
def test_packed_logits_and_gradients_are_those_of_the_padded_run(name, dtype, told, use_cache, batch):
    model = decoder(name, dtype)
    want = padded(model, batch)
    weights = [*model.parameters()]
    d_out = torch.randn(want.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = torch.autograd.grad(want, weights, d_out, allow_unused=True)
    on_scree(model)
    got = model(**getattr(batch, told), use_cache=use_cache).logits[0]
    assert far(got, want) < TOLERANCE[dtype]
    for g, w in zip(torch.autograd.grad(got, weights, d_out, allow_unused=True), wanted, strict=True):
        assert (g is None) == (w is None)
        assert g is None or far(g, w) < TOLERANCE[dtype]


@pytest.mark.parametrize("name", DECODERS)
def test_rows_that_see_each_other_would_be_noticed(name, batch):
    model = decoder(name)
    want = alone(model, batch)
    on_scree(model)
    assert far(model(input_ids=batch.packed["input_ids"]).logits[0], want) > 1e-3


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", DECODERS)
def test_padded_batches_give_what_they_give_elsewhere(name, side, batch):
    model = decoder(name)
    given = left(batch) if side == "left" else {"input_ids": batch.ids, "attention_mask": batch.mask}
    want = alone(model, batch)
    on_scree(model)
    assert far(model(**given).logits[given["attention_mask"].bool()], want) < 1e-12


@pytest.mark.parametrize("name", DECODERS)
def test_generation_goes_on_from_a_cache(name, batch):
    model, given = decoder(name), left(batch)
    del given["position_ids"]
    given |= {"max_new_tokens": 8, "do_sample": False}
    want = [
        model.generate(
            input_ids=row[None], attention_mask=torch.ones_like(row)[None], max_new_tokens=8, do_sample=False
        )
        for row in batch.rows
    ]
    on_scree(model)
    found = model.generate(**given)
    for got, one, row in zip(found, want, batch.rows, strict=True):
        new = one[0, len(row) :]
        assert torch.equal(got[-8:][: len(new)], new)


def test_an_empty_row_of_a_padded_batch_is_nobodys():
    model, batch = decoder("llama"), batch_of((5, 3))
    want = alone(model, batch)
    ids, mask = (torch.cat([x, torch.zeros_like(x[:1])]) for x in (batch.ids, batch.mask))
    on_scree(model)
    assert far(model(input_ids=ids, attention_mask=mask).logits[mask.bool()], want) < 1e-12


def test_several_rows_in_each_of_several_sequences(batch):
    model = decoder("llama")
    want = alone(model, batch)
    ids = torch.cat([torch.cat(batch.rows[:2]), torch.cat(batch.rows[2:])[:8]]).reshape(2, 8)
    positions = torch.tensor([[*range(7), 0], [*range(8)]])
    on_scree(model)
    got = model(input_ids=ids, position_ids=positions).logits
    assert far(got.flatten(0, 1), want[:16]) < 1e-12


# ---------------------------------------------------------------------- encoders


@needs(5, 0, "BERT had an attention of its own")
@pytest.mark.parametrize("told", ["packed", "positions", "mask"])
def test_bert_sees_both_ways_within_a_row(told, batch):
    model = encoder("BertConfig")
    want = model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state[batch.mask.bool()]
    on_scree(model)
    if told == "mask":
        got = model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state[batch.mask.bool()]
    else:
        got = model(**getattr(batch, told)).last_hidden_state[0]
    assert far(got, want) < 1e-12


@needs(5, 7, "ModernBERT had an attention of its own, or couldn't be set to another")
@pytest.mark.parametrize("told", ["packed", "mask"])
def test_modernbert_sees_a_window_to_both_sides(told, batch):
    options = {"local_attention": 6, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2}
    model = encoder("ModernBertConfig", **options)
    want = model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state[batch.mask.bool()]
    on_scree(model)
    if told == "mask":
        got = model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state[batch.mask.bool()]
    else:
        got = model(**batch.packed).last_hidden_state[0]
    assert far(got, want) < 1e-12


@needs(5, 0, "BART made masks of each query")
@pytest.mark.parametrize("generates", [False, True])
def test_a_decoder_sees_the_real_tokens_of_its_encoder(generates, batch):
    sizes = {f"{part}_{size}": n for part in ("encoder", "decoder") for size, n in
             (("layers", 2), ("attention_heads", 4), ("ffn_dim", 96))}  # fmt: skip
    config = transformers.BartConfig(
        vocab_size=99, d_model=64, init_std=0.2, decoder_start_token_id=2, max_position_embeddings=64, **sizes
    )
    model = build(transformers.AutoModelForSeq2SeqLM, config)
    given = {"input_ids": batch.ids, "attention_mask": batch.mask}
    results = []
    for implementation in ("sdpa", "scree"):
        model.set_attn_implementation(implementation)
        if generates:
            results.append(model.generate(**given, max_new_tokens=9, do_sample=False).double())
        else:
            decoded = torch.arange(3, 27).reshape(4, 6)
            results.append(model(**given, decoder_input_ids=decoded).logits)
    assert far(*results) < 1e-12


# ---------------------------------------------------------------------- how it runs


def test_rows_are_read_once_for_all_layers(batch, monkeypatch):
    model, reads = decoder("llama"), []
    on_scree(model)
    to_numpy = rows_module.to_numpy
    monkeypatch.setattr(rows_module, "to_numpy", lambda x: reads.append(x) or to_numpy(x))
    model(**batch.positions)
    assert len(reads) == 1
    model(input_ids=batch.ids, attention_mask=batch.mask)
    assert len(reads) == 3  # the mask, and the positions that may contradict it
    model(**batch.packed)
    assert len(reads) == 3


def test_positions_that_were_written_to_are_read_again(batch):
    model = decoder("llama")
    on_scree(model)
    given = batch.positions
    given["position_ids"] = given["position_ids"].clone()
    mixed = model(**given).logits
    given["position_ids"].copy_(torch.arange(25)[None])
    assert far(model(**given).logits, mixed) > 1e-3
    assert far(model(**given).logits, model(input_ids=given["input_ids"]).logits) == 0


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by torch.compile
def test_it_compiles_whole(batch):
    model = decoder("llama", torch.float32)
    on_scree(model)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert far(compiled(**batch.packed, use_cache=False).logits, model(**batch.packed).logits) < 1e-6


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_training_modes_make_no_difference(batch):
    model = decoder("llama", torch.float32)
    on_scree(model)
    want = model(**batch.packed).logits
    with torch.inference_mode():
        assert torch.equal(model(**batch.packed).logits, want)
        assert torch.equal(model(**batch.positions).logits, want)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert far(model(**batch.packed).logits.float(), want) < 0.1
    model.train()
    model.gradient_checkpointing_enable()
    got = model(**batch.packed, use_cache=False).logits
    got.sum().backward()
    assert torch.equal(got, want)


# ---------------------------------------------------------------------- what isn't silent


@pytest.fixture
def llama():
    model = decoder("llama")
    on_scree(model)
    return model


def test_packed_rows_beside_a_mask_of_ones_are_refused(llama, batch):
    ones = torch.ones_like(batch.packed["input_ids"])
    with pytest.raises(ShapeError, match=r"cu_seq_lens and attention_mask are both given.* leave attention_mask out"):
        llama(**batch.packed, attention_mask=ones)
    with pytest.raises(ShapeError, match="position_ids begin anew at token 7 of sequence 0, as packed rows do"):
        llama(**batch.positions, attention_mask=ones)


def test_cumulative_lengths_of_a_padded_batch_are_refused(llama, batch):
    lengths = {name: batch.packed[name] for name in batch.packed if name not in ("input_ids", "position_ids")}
    with pytest.raises(ShapeError, match="one packed sequence, and this batch has 4; flatten it"):
        llama(input_ids=batch.ids, **lengths)


def test_cumulative_lengths_of_another_batch_are_refused(llama, batch):
    other = batch_of((3, 4))
    with pytest.raises(ShapeError, match="25"):
        llama(**batch.packed | {"cu_seq_lens_q": other.packed["cu_seq_lens_q"]})


def test_packed_rows_behind_a_cache_are_refused(llama, batch):
    cache = llama(input_ids=batch.packed["input_ids"], use_cache=True).past_key_values
    with pytest.raises(UnsupportedError, match="begin anew within the 25 new tokens, and the cache holds others"):
        llama(**batch.positions, past_key_values=cache)


def test_dropout_is_refused(batch):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**GROUPED, attention_dropout=0.1)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="scree").train()
    with pytest.raises(UnsupportedError, match=r"no dropout, and this layer asks for 0.1: set .*attention_dropout"):
        model(**batch.packed)
    model.eval()(**batch.packed)


@pytest.mark.filterwarnings("ignore:.*output_attentions:UserWarning")  # by transformers 4, which then goes on
def test_weights_are_refused(llama, batch):
    with pytest.raises((UnsupportedError, ValueError), match="eager"):
        llama(**batch.packed, output_attentions=True)


@pytest.mark.parametrize("name", ["llama", "mistral, window"])
def test_masks_for_each_query_are_refused(name, batch):
    model = decoder(name)
    on_scree(model)
    with pytest.raises(UnsupportedError, match=r"shape \(4, 1, 12, 12\) tells of each query"):
        model(input_ids=batch.ids, attention_mask=torch.zeros(4, 1, 12, 12))


def test_holes_within_a_window_are_refused(batch):
    model = decoder("mistral, window")
    on_scree(model)
    mask = batch.mask.clone()
    mask[2, 4] = 0
    with pytest.raises(UnsupportedError, match="attention_mask has holes"):
        model(input_ids=batch.ids, attention_mask=mask)


def test_holes_elsewhere_are_what_nobody_sees(batch):
    model, mask = decoder("llama"), batch.mask.clone()
    mask[2, 4] = 0
    want = model(input_ids=batch.ids, attention_mask=mask).logits[mask.bool()]
    on_scree(model)
    assert far(model(input_ids=batch.ids, attention_mask=mask).logits[mask.bool()], want) < 1e-12


def test_a_static_cache_is_refused(llama, batch):
    with pytest.raises(UnsupportedError, match=r"the cache has room for .* keys"):
        llama.generate(input_ids=batch.ids[:1], max_new_tokens=2, cache_implementation="static", disable_compile=True)


@pytest.mark.filterwarnings("ignore::UserWarning")  # by torch.compile, of what it looks at
@pytest.mark.parametrize("compiled", [False, True])
def test_masks_of_chunks_are_refused(compiled, batch):
    config = transformers.Llama4TextConfig(
        **GROUPED, attention_chunk_size=4, num_local_experts=2, intermediate_size_mlp=96, use_qk_norm=False
    )
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="scree").eval()
    if compiled:
        torch.compiler.reset()
        model = torch.compile(model, backend="eager")
    with pytest.raises(UnsupportedError, match="adds one made by 'chunked_overlay'"):
        model(input_ids=batch.ids, use_cache=False)


def test_lengths_of_keys_alone_are_refused(llama, batch):
    given = {name: batch.packed[name] for name in batch.packed if name not in ("cu_seq_lens_q", "max_length_q")}
    with pytest.raises(ShapeError, match="cu_seq_lens_k is given without cu_seq_lens_q"):
        llama(**given)


def test_lengths_with_an_axis_that_a_trainer_added_are_taken(llama, batch):
    given = batch.packed | {name: batch.packed[name][None] for name in ("cu_seq_lens_q", "cu_seq_lens_k")}
    assert torch.equal(llama(**given).logits, llama(**batch.packed).logits)
