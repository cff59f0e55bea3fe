"""Many models: packed rows give what each gives alone, or are refused by name."""

import os
from typing import NamedTuple

import pytest

if "transformers" not in os.environ.get("SCREE_REQUIRE", "").split(","):
    pytest.importorskip("transformers", reason="transformers isn't installed")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("scree_torch")

from scree_core.errors import UnsupportedError  # noqa: E402

from .models import GROUPED, SIZES, VERSION, batch_of, build, config_of, left, on_scree  # noqa: E402

pytestmark = pytest.mark.usefixtures("registered", "models_of_float64_compute_in_it")
WINDOW = GROUPED | {"sliding_window": 5}
NO_HEAD_DIM = {name: size for name, size in GROUPED.items() if name != "head_dim"}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = EXPERTS | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
LATENT |= {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12}
GPT2 = {"vocab_size": 99, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128, "initializer_range": 0.1}
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]


class Model(NamedTuple):
    """A tiny model, and what is special about it."""

    config: str
    options: dict
    since: tuple = (0, 0)
    """The first version where it can be tested."""
    before: str = "had an attention or masks of its own"
    positions_since: tuple = (0, 0)
    """The first version where it hands its positions on to attention."""


NEVER = (99, 0)
DECODERS = {
    "phi3, window": Model("Phi3Config", NO_HEAD_DIM | {"sliding_window": 5}),
    "olmo2": Model("Olmo2Config", GROUPED),
    "cohere2, window": Model("Cohere2Config", WINDOW, positions_since=(5, 0)),
    "gemma3, window": Model("Gemma3TextConfig", WINDOW | {"query_pre_attn_scalar": 16, "layer_types": LAYERS}),
    "starcoder2, window": Model("Starcoder2Config", NO_HEAD_DIM | {"sliding_window": 5}),
    "granite, a factor of its own": Model("GraniteConfig", GROUPED | {"attention_multiplier": 0.3}),
    "gpt2, a factor of each layer": Model(
        "GPT2Config", GPT2 | {"scale_attn_by_inverse_layer_idx": True}, (5, 4), "dropped what tells the rows"
    ),
    "gpt-bigcode, one head of keys": Model(
        "GPTBigCodeConfig", GPT2 | {"attn_pdrop": 0.0}, (5, 23), "compiled its softmax, which the tests replace", NEVER
    ),
    "persimmon": Model("PersimmonConfig", SIZES, since=(5, 2), positions_since=NEVER),
    "mixtral": Model("MixtralConfig", GROUPED | EXPERTS),
    "qwen3-moe": Model("Qwen3MoeConfig", GROUPED | EXPERTS),
    "deepseek-v3, values of another size": Model("DeepseekV3Config", SIZES | LATENT | {"num_key_value_heads": 4}),
    "smollm3, layers without positions": Model("SmolLM3Config", GROUPED | {"no_rope_layer_interval": 2}),
    "olmo3, windows in some layers": Model("Olmo3Config", WINDOW),
    "diffllama": Model("DiffLlamaConfig", GROUPED, since=(5, 15)),
    "llama, both ways": Model("LlamaConfig", GROUPED | {"is_causal": False}, (5, 2), "didn't look at config.is_causal"),
    "mistral, both ways in a window": Model(
        "MistralConfig", WINDOW | {"is_causal": False}, (5, 2), "didn't look at config.is_causal"
    ),
}
ENCODERS = {
    "roberta": Model("RobertaConfig", SIZES, since=(5, 0)),
    "xlm-roberta": Model("XLMRobertaConfig", SIZES, since=(5, 0)),
    "distilbert": Model(
        "DistilBertConfig",
        {"vocab_size": 99, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 96, "initializer_range": 0.1},
        since=(5, 0),
        positions_since=NEVER,
    ),
    "electra": Model("ElectraConfig", SIZES | {"embedding_size": 64}, since=(5, 0)),
    "albert": Model("AlbertConfig", SIZES | {"embedding_size": 32}, since=(5, 0)),
    "eurobert": Model("EuroBertConfig", SIZES),
}
REFUSED = {
    "llama4, chunks": Model(
        "Llama4TextConfig",
        GROUPED | EXPERTS | {"attention_chunk_size": 4, "intermediate_size_mlp": 96, "use_qk_norm": False},
    ),
    "gemma3, both ways": Model(
        "Gemma3TextConfig", WINDOW | {"use_bidirectional_attention": True}, (4, 57), "saw no later keys"
    ),
    "doge, masks of its own": Model("DogeConfig", GROUPED),
    "bloom, attention of its own": Model(
        "BloomConfig", {"vocab_size": 99, "hidden_size": 64, "n_layer": 2, "n_head": 4}, since=(5, 2)
    ),
    "deepseek-v3.2, picks keys": Model(
        "DeepseekV32Config",
        SIZES | LATENT | {"num_key_value_heads": 4, "index_topk": 3, "index_n_heads": 2, "index_head_dim": 16},
    ),
    "splinter, doesn't say whether it is causal": Model("SplinterConfig", SIZES),
}
FROM_PAD = ("roberta", "xlm-roberta")
"""Their positions begin behind the number of the padding token."""


def of(auto, model, implementation="sdpa"):
    if model.since > VERSION:
        pytest.skip(
            f"transformers {transformers.__version__}: before {'.'.join(map(str, model.since))} "
            f"{model.config.removesuffix('Config')} {model.before}"
        )
    return build(auto, config_of(model.config, model.options), implementation)


def far(got, want):
    """Return how far off a result is, relative to the largest number where there are larger ones than 1."""
    return ((got - want).abs().max() / want.abs().max().clamp(min=1)).item()


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # by GPT-BigCode, in some versions
@pytest.mark.filterwarnings("ignore:.*sliding_window_pattern:FutureWarning")  # by Cohere 2, of its own default
@pytest.mark.parametrize("name", DECODERS)
def test_decoders_keep_rows_apart(name):
    batch, described = batch_of(), DECODERS[name]
    model = of(transformers.AutoModelForCausalLM, described)
    # Alone with a mask, since without one sdpa takes models that are told to see both ways for causal ones.
    want = model(input_ids=batch.ids, attention_mask=batch.mask).logits[batch.mask.bool()]
    on_scree(model)
    assert far(model(**batch.packed).logits[0], want) < 1e-12
    if described.positions_since <= VERSION:
        assert far(model(**batch.positions).logits[0], want) < 1e-12
    assert far(model(input_ids=batch.ids, attention_mask=batch.mask).logits[batch.mask.bool()], want) < 1e-12
    given = left(batch)
    assert far(model(**given).logits[given["attention_mask"].bool()], want) < 1e-12
    assert far(model(input_ids=batch.packed["input_ids"]).logits[0], want) > 1e-3  # rows that see each other


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_keep_rows_apart(name):
    batch, described = batch_of(), ENCODERS[name]
    if name in FROM_PAD:
        batch.packed["position_ids"] += 1
    model = of(transformers.AutoModel, described)
    want = model(input_ids=batch.ids, attention_mask=batch.mask)[0][batch.mask.bool()]
    on_scree(model)
    assert far(model(**batch.packed)[0][0], want) < 1e-12
    if described.positions_since <= VERSION:
        assert far(model(**batch.positions)[0][0], want) < 1e-12
    assert far(model(input_ids=batch.ids, attention_mask=batch.mask)[0][batch.mask.bool()], want) < 1e-12


@pytest.mark.parametrize("name", REFUSED)
def test_what_scree_cannot_do_is_refused_by_name(name):
    batch = batch_of()
    model = of(transformers.AutoModel, REFUSED[name], "scree")
    with pytest.raises(UnsupportedError, match=r"load (it|the model) with attn_implementation="):
        model(input_ids=batch.packed["input_ids"])
