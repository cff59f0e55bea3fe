"""What transformers tells attention and masks, in the words of its versions: understood, or refused."""

import os
import sys
from types import SimpleNamespace

import pytest

if "transformers" not in os.environ.get("SCREE_REQUIRE", "").split(","):
    pytest.importorskip("transformers", reason="transformers isn't installed")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("scree_torch")

import scree.hf  # noqa: E402
from scree_core.errors import BackendNotInstalledError, UnsupportedError  # noqa: E402
from scree_torch.transformers import versions  # noqa: E402

from .models import needs  # noqa: E402

masking = pytest.importorskip("transformers.masking_utils")
LAYER = SimpleNamespace(is_causal=True)


def queries(length=6, heads=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(1, heads, length, 8, generator=generator, dtype=torch.float64) for _ in range(3))


@pytest.mark.parametrize("found", ["4.53.3", "4.9.0", "3.5.1"])
def test_an_older_version_is_refused_by_name(found, monkeypatch):
    monkeypatch.setattr(sys.modules["transformers"], "__version__", found)
    with pytest.raises(BackendNotInstalledError, match=rf'4\.54 or newer, and {found} is installed\n.*"transformers>='):
        scree.hf.register()


@pytest.mark.parametrize("found", ["4.54.0", "5.0.0rc1", "5.24.0.dev0", "10.0"])
def test_a_newer_version_is_not(found):
    versions.check_version(found)


def test_masks_of_older_versions_are_asked_by_positions():
    def theirs(batch_size, cache_position, kv_length):
        """Older."""

    mask = torch.tensor([[0, 1, 1, 1, 1]]).bool()
    asked = versions.mask_for(theirs)
    given = {"mask_function": masking.causal_mask_function, "attention_mask": mask}
    assert asked(batch_size=1, cache_position=torch.arange(5), kv_length=5, **given) is not None
    later = asked(batch_size=1, cache_position=torch.tensor([4]), kv_length=5, **given)  # behind a cache that is full
    assert torch.equal(later, mask)
    with pytest.raises(UnsupportedError, match="the cache has room for 9 keys"):
        asked(batch_size=1, cache_position=torch.tensor([4]), kv_length=9, **given)
    assert versions.mask_for(lambda q_length: None) is scree.hf.scree_mask


@pytest.mark.parametrize("name", ["indices", "block_indices", "sinks", "position_bias", "head_mask"])
def test_what_would_change_the_result_is_refused(name):
    with pytest.raises(UnsupportedError, match=f"takes no {name}, which this model gives"):
        scree.hf.scree_attention(LAYER, *queries(), None, **{name: torch.zeros(1)})


def test_a_function_that_a_model_adds_is_refused_even_where_it_is_understood():
    window = masking.sliding_window_overlay(3)
    function = masking.and_masks(masking.causal_mask_function, window)
    assert scree.hf.scree_mask(1, 6, 6, mask_function=function) is None
    with pytest.raises(UnsupportedError, match="a function of the model's own"):
        scree.hf.scree_mask(1, 6, 6, mask_function=function, use_vmap=True)


def test_a_layer_that_does_not_say_whether_it_is_causal_is_refused():
    with pytest.raises(UnsupportedError, match="SimpleNamespace doesn't say whether queries see later keys"):
        scree.hf.scree_attention(SimpleNamespace(), *queries(), None)
    scree.hf.scree_attention(SimpleNamespace(), *queries(), None, is_causal=False)


def test_a_layer_that_its_config_contradicts_is_refused():
    layer = SimpleNamespace(is_causal=True, config=SimpleNamespace(is_causal=False))
    with pytest.raises(
        UnsupportedError, match=r"config\.is_causal is False, and SimpleNamespace says .*is_causal=False"
    ):
        scree.hf.scree_attention(layer, *queries(), None)
    scree.hf.scree_attention(layer, *queries(), None, is_causal=False)


@pytest.mark.parametrize(("told", "config"), [(3, 3), (4, 3), (4, None), (4, 99)])
def test_windows_to_both_sides_reach_as_far_as_the_mask(told, config):
    """Models that tell FlashAttention ``config.sliding_window + 1``, those that forget to, and those without it."""
    q, k, v = queries(9)
    layer = SimpleNamespace(is_causal=False, config=SimpleNamespace(sliding_window=config))
    got, _ = scree.hf.scree_attention(layer, q, k, v, None, sliding_window=told)
    at = torch.arange(9)
    mask = (at[:, None] - at).abs() <= 3
    want = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(got, want.transpose(1, 2), rtol=0, atol=1e-12)


@needs(4, 56, "StaticCache wasn't made of a config and a length")
@pytest.mark.filterwarnings("ignore::UserWarning")  # by torch.compile, of what it looks at
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_static_cache_is_refused_where_models_are_compiled():
    config = transformers.LlamaConfig(
        vocab_size=9, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    scree.hf.register()
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="scree").eval()
    cache = transformers.StaticCache(config=config, max_cache_len=12)
    torch.compiler.reset()
    with pytest.raises(UnsupportedError, match="the cache has room for 12 keys"):
        torch.compile(model, backend="eager")(torch.ones(1, 4, dtype=torch.long), past_key_values=cache)
