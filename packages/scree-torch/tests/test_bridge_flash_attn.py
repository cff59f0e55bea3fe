"""PyTorch's own variable-length attention, told by ``flash_attn_kwargs`` where rows lie."""

import pytest

torch = pytest.importorskip("torch")
varlen = pytest.importorskip("torch.nn.attention.varlen", reason="PyTorch before 2.10 has no varlen_attn")

import scree_core as scree  # noqa: E402
from scree_core.bridges import flash_attn_kwargs  # noqa: E402
from scree_core.testing.budget import check  # noqa: E402


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("others", [[3, 64, 1, 200], [3, 70, 5, 200]], ids=["self", "cross"])
def test_torchs_own_attention_gives_the_result_of_scree(causal, others):
    generator = torch.Generator("cuda").manual_seed(0)

    def draw(rows):
        return torch.randn(sum(rows), 4, 64, generator=generator, device="cuda", dtype=torch.bfloat16)

    lengths = [3, 64, 1, 200]
    q, k = scree.from_lengths(draw(lengths), lengths), scree.from_lengths(draw(others), others)
    v = k.with_values(draw(others))
    window = (-1, 0) if causal else (-1, -1)  # how it spells causal
    found = flash_attn_kwargs(q, k, flavour="torch")
    got = varlen.varlen_attn(q.values, k.values, v.values, **found, window_size=window)

    def attend(dtype):
        arrays = (x.with_values(x.values.to(dtype)) for x in (q, k, v))
        return scree.varlen_attention(*arrays, causal=causal, backend="torch").values

    results = (x.double().cpu().numpy() for x in (got, attend(torch.bfloat16), attend(torch.float64)))
    check(*results, "bfloat16", "varlen_attn")


def test_tensors_of_offsets_are_the_same_objects():
    q = scree.from_lengths(torch.zeros(5, 2, 8), [3, 2])
    found = flash_attn_kwargs(q, flavour="torch")
    assert found["cu_seq_q"] is found["cu_seq_k"] is q.offsets
    assert (found["max_q"], found["max_k"]) == (3, 3)


def test_wide_offsets_are_narrowed_on_their_device():
    q = scree.Array(torch.zeros(5, 2, 8), torch.tensor([0, 3, 5]))
    found = flash_attn_kwargs(q)
    assert found["cu_seqlens_q"].dtype == torch.int32
    assert found["max_seqlen_q"] == 3
